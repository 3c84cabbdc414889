package publish_test

import (
	"errors"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/embedded"
	"mqtt-nats-bridge/jetstream/publish"
)

func TestPublisher(t *testing.T) {
	t.Parallel()
	t.Run("messages are stored once and in order", testMessagesAreStoredOnceAndInOrder)
	t.Run("message is stored unchanged", testMessageIsStoredUnchanged)
	t.Run("server may be unreachable at start", testServerMayBeUnreachableAtStart)
	t.Run("server restarts under load lose nothing", testServerRestartsUnderLoadLoseNothing)
	t.Run("connection losses under load lose nothing", testConnectionLossesUnderLoadLoseNothing)
	t.Run("messages wait for missing stream", testMessagesWaitForMissingStream)
	t.Run("messages wait for full stream", testMessagesWaitForFullStream)
	t.Run("poison messages are rejected during recovery", testPoisonMessagesAreRejectedDuringRecovery)
	t.Run("Publish never calls Settle", testPublishNeverCallsSettle)
	t.Run("Settle may republish rejected message", testSettleMayRepublishRejectedMessage)
	t.Run("Open requires connection and settler", testOpenRequiresConnectionAndSettler)
	t.Run("rejected last resort message is retried", testRejectedLastResortMessageIsRetried)
	t.Run("subject without stream is rejected once sure", testSubjectWithoutStreamIsRejectedOnceSure)
}

func testMessagesAreStoredOnceAndInOrder(t *testing.T) {
	t.Parallel()
	srv := natstest.StartServer(t, nil)
	s := stream(t, natstest.JetStream(t, srv))
	o := natstest.NewOutcomes(t)
	p := publisher(t, srv.URL(), o, func(opts *publish.Options) { opts.AckTimeout = testrun.Timeout })
	var b numbered
	const n = 20_000
	for i := range n {
		p.Publish(b.message(i))
	}
	for _, x := range o.Wait(n) {
		require.NoError(t, x.Refused)
		require.False(t, x.Duplicate)
	}
	requireExactly(t, s, n)
	require.Positive(t, o.Done.Load())
	stats := p.Stats()
	require.Equal(t, uint64(n), stats.Sent)
	require.Zero(t, stats.Resent)
	require.Zero(t, stats.Unsettled)
	require.Empty(t, stats.Problem)
	require.True(t, stats.Connected)
	require.Equal(t, int64(1<<20), p.MaxPayload())
}

func testMessageIsStoredUnchanged(t *testing.T) {
	t.Parallel()
	srv := natstest.StartServer(t, nil)
	s := stream(t, natstest.JetStream(t, srv))
	o := natstest.NewOutcomes(t)
	p := publisher(t, srv.URL(), o)
	payload := []byte("\x00\r\n\xff")
	m := &bridge.Message{Token: 1, Subject: []byte("t.a%2Eb"), ID: []byte("id 1"), Payload: payload, Headers: []bridge.Header{
		{Name: "Mqtt-Topic", Value: []byte("t/ü\xff")}, {Name: "Bridge-Cn", Value: []byte("acme/dev-1")},
		{Name: "A", Value: []byte("1")}, {Name: "B", Value: []byte("2")}, {Name: "C", Value: []byte("3")}, {Name: "D", Value: nil},
	}}
	p.Publish(m)
	p.Publish(&bridge.Message{Token: 2, Subject: []byte("t.bare")})
	m.Token = 3
	p.Publish(m)
	results := o.Wait(3)
	require.True(t, results[2].Duplicate, "the stream had its id")
	got, err := s.GetMsg(natstest.Context(t), 1)
	require.NoError(t, err)
	require.Equal(t, "t.a%2Eb", got.Subject)
	require.Equal(t, payload, got.Data)
	require.Equal(t, nats.Header{
		"Nats-Msg-Id": {"id 1"}, "Mqtt-Topic": {"t/ü\xff"}, "Bridge-Cn": {"acme/dev-1"},
		"A": {"1"}, "B": {"2"}, "C": {"3"}, "D": {""},
	}, got.Header)
	got, err = s.GetMsg(natstest.Context(t), 2)
	require.NoError(t, err)
	require.Empty(t, got.Header)
	require.Empty(t, got.Data)
}

func testServerMayBeUnreachableAtStart(t *testing.T) {
	t.Parallel()
	dir, port := t.TempDir(), testrun.Address(t).Port
	srv, err := embedded.Open(embedded.Options{StoreDir: dir, Port: port})
	require.NoError(t, err)
	stream(t, natstest.JetStream(t, srv))
	srv.Close()

	o := natstest.NewOutcomes(t)
	p := publisher(t, srv.URL(), o)
	var b numbered
	for i := range 100 {
		p.Publish(b.message(i))
	}
	require.Zero(t, p.MaxPayload())
	require.Equal(t, 100, p.Stats().Unsettled)
	require.NotEmpty(t, p.Stats().Problem)

	srv, err = embedded.Open(embedded.Options{StoreDir: dir, Port: port})
	require.NoError(t, err)
	t.Cleanup(srv.Close)
	for _, x := range o.Wait(100) {
		require.NoError(t, x.Refused)
	}
	s, err := natstest.JetStream(t, srv).Stream(natstest.Context(t), "T")
	require.NoError(t, err)
	requireExactly(t, s, 100)
}

func testServerRestartsUnderLoadLoseNothing(t *testing.T) {
	t.Parallel()
	dir, port := t.TempDir(), testrun.Address(t).Port
	srv, err := embedded.Open(embedded.Options{StoreDir: dir, Port: port})
	require.NoError(t, err)
	stream(t, natstest.JetStream(t, srv))
	o := natstest.NewOutcomes(t)
	p := publisher(t, srv.URL(), o)

	stop, restarted, pulse := make(chan struct{}), make(chan *embedded.Server, 1), make(chan struct{}, 1)
	go func() {
		defer close(stop)
		current := srv
		for range 3 {
			for range 5 {
				select {
				case <-pulse:
				case <-time.After(testrun.Timeout):
					t.Error("the load does not go on")
				}
			}
			current.Close()
			next, err := embedded.Open(embedded.Options{StoreDir: dir, Port: port})
			if err != nil {
				t.Errorf("restart: %v", err)
				break
			}
			current = next
		}
		restarted <- current
	}()
	n := load(t, p, o, stop, pulse)
	srv = natstest.Receive(t, "the last server", restarted)
	t.Cleanup(srv.Close)
	s, err := natstest.JetStream(t, srv).Stream(natstest.Context(t), "T")
	require.NoError(t, err)
	requireExactly(t, s, n)
	require.GreaterOrEqual(t, p.Stats().Connects, uint64(4))
}

func testConnectionLossesUnderLoadLoseNothing(t *testing.T) {
	t.Parallel()
	srv := natstest.StartServer(t, nil)
	s := stream(t, natstest.JetStream(t, srv))
	target, err := url.Parse(srv.URL())
	require.NoError(t, err)
	proxy := newCutter(t, target.Host)
	o := natstest.NewOutcomes(t)
	p := publisher(t, proxy.url(), o)
	const cuts = 20
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		for i := range cuts {
			proxy.cutWithin(1 << (8 + i%12))
			select {
			case <-proxy.cuts:
			case <-time.After(testrun.Timeout):
				t.Error("no cut came")
				return
			}
		}
	}()
	n := load(t, p, o, stop, nil)
	requireExactly(t, s, n)
	stats := p.Stats()
	require.GreaterOrEqual(t, stats.Connects, uint64(cuts))
	t.Logf("%d messages, %d sent again, %d recoveries", n, stats.Resent, stats.Recoveries)
}

func testMessagesWaitForMissingStream(t *testing.T) {
	t.Parallel()
	srv := natstest.StartServer(t, nil)
	o := natstest.NewOutcomes(t)
	p := publisher(t, srv.URL(), o)
	var b numbered
	for i := range 100 {
		p.Publish(b.message(i))
	}
	requireProblem(t, p, publish.ErrNoResponders.Error())
	require.ErrorIs(t, p.Stats().Err, publish.ErrNoResponders)
	require.False(t, p.Stats().Since.IsZero())
	s := stream(t, natstest.JetStream(t, srv))
	o.Wait(100)
	requireExactly(t, s, 100)
	require.Empty(t, p.Stats().Problem)
}

// requireProblem waits until a publisher probes without success, so that nothing else is in flight.
func requireProblem(t *testing.T, p *publish.Publisher, problem string) {
	t.Helper()
	sent := uint64(0)
	require.Eventually(t, func() bool {
		s := p.Stats()
		if sent == 0 && s.Problem == problem {
			sent = s.Sent
		}
		return s.Problem == problem && s.Sent >= sent+2
	}, testrun.Timeout, time.Millisecond, "%+v", p.Stats())
}

func testMessagesWaitForFullStream(t *testing.T) {
	t.Parallel()
	srv := natstest.StartServer(t, nil)
	js := natstest.JetStream(t, srv)
	bounded := func(n int64) func(*natsjs.StreamConfig) {
		return func(c *natsjs.StreamConfig) { c.MaxMsgs, c.Discard = n, natsjs.DiscardNew }
	}
	stream(t, js, bounded(30))
	o := natstest.NewOutcomes(t)
	p := publisher(t, srv.URL(), o)
	var b numbered
	for i := range 100 {
		p.Publish(b.message(i))
	}
	o.Wait(30)
	requireProblem(t, p, "JetStream error 10077: maximum messages exceeded")
	require.Error(t, p.Stats().Err)
	require.Equal(t, 70, p.Stats().Unsettled)
	s := stream(t, js, bounded(1000))
	for _, x := range o.Wait(70) {
		require.NoError(t, x.Refused)
	}
	requireExactly(t, s, 100)
}

// A message that JetStream will never accept does not affect others.
func TestPublisherPoisonMessages(t *testing.T) {
	t.Parallel()
	srv := natstest.StartServer(t, func(o *natsd.Options) { o.MaxPayload = 8 << 10 })
	s := stream(t, natstest.JetStream(t, srv), func(c *natsjs.StreamConfig) { c.MaxMsgSize = 4 << 10 })
	o := natstest.NewOutcomes(t)
	p := publisher(t, srv.URL(), o)
	for name, size := range map[string]int{"over the stream's size": 5 << 10, "over the server's size": 9 << 10} {
		t.Run(name, func(t *testing.T) {
			var b numbered
			info, err := s.Info(natstest.Context(t))
			require.NoError(t, err)
			before := info.State.Msgs
			for i := range 50 {
				p.Publish(b.message(int(before)*10 + i*10))
				p.Publish(&bridge.Message{
					Token: before*10 + uint64(i)*10 + 1, Subject: []byte("t.poison"), ID: []byte("poison"),
					Headers: []bridge.Header{{Name: "Mqtt-Topic", Value: []byte("t/poison")}}, Payload: make([]byte, size),
				})
			}
			stored := 0
			for _, x := range o.Wait(100) {
				if x.Refused == nil {
					stored++
					continue
				}
				require.Equal(t, publish.Reject, publish.Classify(x.Refused))
				require.Equal(t, bridge.Message{
					Token: x.Token, Subject: []byte("t.poison"), ID: []byte("poison"),
					Headers: []bridge.Header{{Name: "Mqtt-Topic", Value: []byte("t/poison")}}, Payload: make([]byte, size),
				}, x.Message)
			}
			require.Equal(t, 50, stored)
			info, err = s.Info(natstest.Context(t))
			require.NoError(t, err)
			require.Equal(t, before+50, info.State.Msgs)
		})
	}
	require.Zero(t, p.Stats().Recoveries)
}

func testPoisonMessagesAreRejectedDuringRecovery(t *testing.T) {
	t.Parallel()
	srv := natstest.StartServer(t, func(o *natsd.Options) { o.MaxPayload = 8 << 10 })
	o := natstest.NewOutcomes(t)
	p := publisher(t, srv.URL(), o)
	var b numbered
	poison := func(token uint64, size int) {
		p.Publish(&bridge.Message{Token: token, Subject: []byte("t.poison"), Payload: make([]byte, size)})
	}
	const n = 40
	for i := range n {
		// The oldest message is a poison message, and probes use it.
		poison(uint64(1000+i), 5<<10)
		poison(uint64(2000+i), 9<<10)
		p.Publish(b.message(i))
	}
	requireProblem(t, p, publish.ErrNoResponders.Error())
	for i := range n {
		poison(uint64(3000+i), 9<<10)
	}
	s := stream(t, natstest.JetStream(t, srv), func(c *natsjs.StreamConfig) { c.MaxMsgSize = 4 << 10 })
	for _, x := range o.Wait(4 * n) {
		require.Equal(t, x.Token >= 1000, x.Refused != nil, x.Token)
	}
	requireExactly(t, s, n)
}

// The lane calls Publish under the lock that Settle needs.
func testPublishNeverCallsSettle(t *testing.T) {
	t.Parallel()
	srv := natstest.StartServer(t, func(o *natsd.Options) { o.MaxPayload = 1 << 10 })
	stream(t, natstest.JetStream(t, srv))
	o := natstest.NewOutcomes(t)
	p := publisher(t, srv.URL(), o)
	held := make(chan struct{}, 1)
	o.Before = func() {
		held <- struct{}{}
		<-held
	}
	published := make(chan struct{})
	go func() {
		defer close(published)
		for i := range 100 {
			held <- struct{}{}
			p.Publish(&bridge.Message{Token: uint64(i), Subject: []byte("t.x"), Payload: make([]byte, 1<<(i%12))})
			<-held
		}
	}()
	natstest.Receive(t, "the end of Publish", published)
	o.Wait(100)
}

func testSettleMayRepublishRejectedMessage(t *testing.T) {
	t.Parallel()
	srv := natstest.StartServer(t, func(o *natsd.Options) { o.MaxPayload = 1 << 10 })
	s := stream(t, natstest.JetStream(t, srv))
	o := natstest.NewOutcomes(t)
	again := &republisher{Outcomes: o}
	p := publisher(t, srv.URL(), o, func(opts *publish.Options) { opts.Settler = again })
	again.publisher = p
	for i := range 50 {
		p.Publish(&bridge.Message{Token: uint64(i), Subject: []byte("t.big"), Payload: make([]byte, 2<<10)})
	}
	for _, x := range o.Wait(50) {
		require.NoError(t, x.Refused)
	}
	info, err := s.Info(natstest.Context(t))
	require.NoError(t, err)
	require.Equal(t, uint64(50), info.State.Msgs)
}

// republisher reacts to a refused message as the lane does: it sends less of it.
type republisher struct {
	*natstest.Outcomes
	publisher *publish.Publisher
}

func (r *republisher) Settle(x *bridge.Result) {
	if x.Refused == nil {
		r.Outcomes.Settle(x)
		return
	}
	m := *x.Message
	m.Payload = m.Payload[:100]
	r.publisher.Publish(&m)
}

func testOpenRequiresConnectionAndSettler(t *testing.T) {
	t.Parallel()
	_, err := publish.Open(publish.Options{Settler: natstest.NewOutcomes(t)})
	require.ErrorContains(t, err, "open publisher: ")
	_, err = publish.Open(publish.Options{
		Connect: func(...nats.Option) (*nats.Conn, error) { return nil, nats.ErrNoServers },
	})
	require.ErrorContains(t, err, "open publisher: ")
	refused := errors.New("bad options")
	_, err = publish.Open(publish.Options{
		Settler: natstest.NewOutcomes(t), Connect: func(...nats.Option) (*nats.Conn, error) { return nil, refused },
	})
	require.ErrorIs(t, err, refused)
}

func testRejectedLastResortMessageIsRetried(t *testing.T) {
	t.Parallel()
	srv := natstest.StartServer(t, nil)
	js := natstest.JetStream(t, srv)
	small := func(n int32) func(*natsjs.StreamConfig) {
		return func(c *natsjs.StreamConfig) { c.MaxMsgSize = n }
	}
	stream(t, js, small(80))
	o := natstest.NewOutcomes(t)
	p := publisher(t, srv.URL(), o)
	var b numbered
	m := b.message(0)
	m.Payload, m.LastResort = make([]byte, 200), true
	p.Publish(m)
	p.Publish(b.message(1))
	requireProblem(t, p, "JetStream error 10054: message size exceeds maximum allowed")
	require.Error(t, p.Stats().Err)
	require.Equal(t, "t.x", p.Stats().Subject)
	stream(t, js, small(-1))
	for _, x := range o.Wait(2) {
		require.NoError(t, x.Refused)
	}
}

func testSubjectWithoutStreamIsRejectedOnceSure(t *testing.T) {
	t.Parallel()
	srv := natstest.StartServer(t, nil)
	s := stream(t, natstest.JetStream(t, srv))
	var asked atomic.Int32
	o := natstest.NewOutcomes(t)
	p := publisher(t, srv.URL(), o, func(opts *publish.Options) {
		opts.NoStreamForSubject = func(subject string) bool {
			require.Equal(t, "elsewhere", subject)
			return asked.Add(1) > 1
		}
	})
	var b numbered
	odd := b.message(1000)
	odd.Subject = []byte("elsewhere")
	p.Publish(odd)
	for i := range 10 {
		p.Publish(b.message(i))
	}
	for _, x := range o.Wait(11) {
		if x.Token == 1000 {
			require.ErrorIs(t, x.Refused, publish.ErrNoStreamForSubject)
			continue
		}
		require.NoError(t, x.Refused)
	}
	require.EqualValues(t, 2, asked.Load())
	requireExactly(t, s, 10)
}
