package publish_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/publish"
)

// scripted is a stream whose answers come from the test.
type scripted struct {
	t        *testing.T
	nc       *nats.Conn
	messages chan *nats.Msg
}

func newScripted(t *testing.T, url string) *scripted {
	t.Helper()
	nc, err := nats.Connect(url)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	s := &scripted{t: t, nc: nc, messages: make(chan *nats.Msg, 1<<16)}
	_, err = nc.ChanSubscribe("t.>", s.messages)
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	return s
}

// toScripted returns a publisher to a scripted stream, and the results of its messages. It never
// resends because of a missing answer, unless the options configure that.
func toScripted(t *testing.T, options ...func(*publish.Options)) (*scripted, *publish.Publisher, *natstest.Outcomes) {
	t.Helper()
	srv := natstest.StartServer(t, nil)
	s, o := newScripted(t, srv.URL()), natstest.NewOutcomes(t)
	return s, publisher(t, srv.URL(), o, append([]func(*publish.Options){longTimeout}, options...)...), o
}

// next returns the next message, which must be the one numbered n.
func (s *scripted) next(n int) *nats.Msg {
	s.t.Helper()
	m := natstest.Receive(s.t, fmt.Sprintf("message %d", n), s.messages)
	require.Equal(s.t, fmt.Sprint(n), string(m.Data))
	return m
}

const (
	ackStored    = `{"stream":"T","seq":1}`
	ackDuplicate = `{"stream":"T","seq":1,"duplicate": true}`
	ackFull      = `{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"T","seq":0}`
	ackTooLarge  = `{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"},"stream":"T","seq":0}`
)

func (s *scripted) answer(m *nats.Msg, with string) {
	s.t.Helper()
	require.NoError(s.t, s.nc.Publish(m.Reply, []byte(with)))
}

// longTimeout prevents resending because of a missing answer.
func longTimeout(o *publish.Options) { o.AckTimeout = time.Hour }

func TestPublisherAck(t *testing.T) {
	t.Parallel()
	t.Run("only positive reply to older attempt counts", testOnlyPositiveReplyToOlderAttemptCounts)
	t.Run("consumer message in inbox is not an ack", testConsumerMessageInInboxIsNotAnAck)
	t.Run("forged PubAck is accepted", testForgedPubAckIsAccepted)
	t.Run("malformed reply is not an ack", testMalformedReplyIsNotAnAck)
}

func testOnlyPositiveReplyToOlderAttemptCounts(t *testing.T) {
	t.Parallel()
	s, p, o := toScripted(t)
	p.Prove()
	var b numbered
	for i := range 3 {
		p.Publish(b.message(i))
	}
	zero, one, two := s.next(0), s.next(1), s.next(2)
	s.answer(zero, ackFull)
	probe := s.next(0)
	require.NotEqual(t, zero.Reply, probe.Reply)
	require.Equal(t, zero.Header, probe.Header)
	s.answer(zero, ackTooLarge) // for the older attempt, so it is ignored
	s.answer(two, ackDuplicate) // a duplicate is stored
	x := o.Wait(1)[0]
	require.Equal(t, natstest.Outcome{Token: 2, Duplicate: true}, x)
	s.answer(probe, ackStored)
	require.Equal(t, natstest.Outcome{Token: 0}, o.Wait(1)[0])
	again := s.next(1)
	s.answer(one, ackTooLarge)
	s.answer(again, ackStored)
	require.Equal(t, natstest.Outcome{Token: 1}, o.Wait(1)[0])
	p.Publish(b.message(3))
	s.answer(s.next(3), ackStored)
	o.Wait(1)
	stats := p.Stats()
	require.Equal(t, uint64(6), stats.Sent)
	require.Equal(t, uint64(2), stats.Resent)
	require.Equal(t, uint64(1), stats.Recoveries)
}

// A client that may request a message from a consumer chooses the inbox for it, and a device
// chooses its payload and the last tokens of its subject.
func testConsumerMessageInInboxIsNotAnAck(t *testing.T) {
	t.Parallel()
	s, p, o := toScripted(t)
	js, err := natsjs.New(s.nc)
	require.NoError(t, err)
	stream, err := js.CreateStream(natstest.Context(t), natsjs.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	require.NoError(t, err)
	consumer, err := stream.CreateConsumer(natstest.Context(t), natsjs.ConsumerConfig{Name: "c", AckPolicy: natsjs.AckExplicitPolicy})
	require.NoError(t, err)
	_, err = js.Publish(natstest.Context(t), "s.1.1", []byte(ackStored))
	require.NoError(t, err)

	var b numbered
	p.Publish(b.message(0))
	zero := s.next(0)
	require.Regexp(t, `\.1\.1$`, zero.Reply)
	require.NoError(t, s.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT.S.c", zero.Reply, nil))
	require.Eventually(t, func() bool {
		info, err := consumer.Info(natstest.Context(t))
		return err == nil && info.NumAckPending == 1
	}, testrun.Timeout, time.Millisecond, "delivered")
	s.answer(zero, ackDuplicate)
	require.Equal(t, natstest.Outcome{Token: 0, Duplicate: true}, o.Wait(1)[0], "by its PubAck and nothing else")
}

// A known limit (docs/security.md): a PubAck does not name the publish that it answers. A NATS user
// who can read the inbox and may publish to some stream, with the inbox as the reply subject, can
// make JetStream acknowledge a message that was never stored.
func testForgedPubAckIsAccepted(t *testing.T) {
	t.Parallel()
	s, p, o := toScripted(t)
	js, err := natsjs.New(s.nc)
	require.NoError(t, err)
	_, err = js.CreateStream(natstest.Context(t), natsjs.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	require.NoError(t, err)
	var b numbered
	p.Publish(b.message(0))
	require.NoError(t, s.nc.PublishRequest("s.x", s.next(0).Reply, nil))
	require.Equal(t, natstest.Outcome{Token: 0}, o.Wait(1)[0])
}

func TestPublisherResend(t *testing.T) {
	t.Parallel()
	t.Run("oldest is probed then rest in order", testOldestIsProbedThenRestInOrder)
	t.Run("ack timeout starts resending", testAckTimeoutStartsResending)
}

func testOldestIsProbedThenRestInOrder(t *testing.T) {
	t.Parallel()
	s, p, o := toScripted(t)
	p.Prove()
	var b numbered
	for i := range 4 {
		p.Publish(b.message(i))
	}
	s.next(0)
	one := s.next(1)
	s.next(2)
	s.next(3)
	s.answer(one, ackFull)
	for range 3 {
		probe := s.next(0)
		p.Publish(&bridge.Message{Token: 100, Subject: []byte("other")}) // mustWait back
		s.answer(probe, ackFull)
	}
	require.Equal(t, "JetStream error 10077: maximum messages exceeded", p.Stats().Problem)
	s.answer(s.next(0), ackDuplicate)
	for i := 1; i < 4; i++ {
		s.answer(s.next(i), ackStored)
	}
	require.True(t, o.Wait(4)[0].Duplicate)
	// The other three have no stream; their answers may have arrived by now.
	require.NotContains(t, p.Stats().Problem, "maximum messages exceeded")
}

func testAckTimeoutStartsResending(t *testing.T) {
	t.Parallel()
	s, p, o := toScripted(t, func(o *publish.Options) { o.AckTimeout = 20 * time.Millisecond })
	p.Prove()
	var b numbered
	p.Publish(b.message(0))
	p.Publish(b.message(1))
	s.next(0)
	s.next(1)
	s.next(0)
	require.Equal(t, publish.ErrAckTimeout.Error(), p.Stats().Problem)
	last := s.next(0) // probes continue
	s.answer(last, ackStored)
	for answered := false; !answered; {
		m := natstest.Receive(t, "the second message", s.messages)
		if answered = string(m.Data) == "1"; answered {
			s.answer(m, ackStored)
		}
	}
	o.Wait(2)
}

func testMalformedReplyIsNotAnAck(t *testing.T) {
	t.Parallel()
	s, p, o := toScripted(t)
	var b numbered
	p.Publish(b.message(0))
	m := s.next(0)
	inbox := m.Reply[:bytes.LastIndexByte([]byte(m.Reply[:len(m.Reply)-2]), '.')]
	for _, reply := range []string{inbox + ".x", inbox + ".!.1", inbox + ".zzzzzzzzzzzzzzzzzzzz.1", inbox + ".99.1", inbox + ".1.zzzzzzzzzzzz"} {
		s.answer(&nats.Msg{Reply: reply}, ackStored)
	}
	for _, answer := range []string{"x", "{}", `{"stream":"T"}`, `{"stream":"T","seq":0}`, "null", "[]", ""} {
		s.answer(m, answer)
		m = s.next(0)
		require.Contains(t, p.Stats().Problem, publish.ErrBadAck.Error())
	}
	s.answer(m, ackStored)
	require.Equal(t, natstest.Outcome{Token: 0}, o.Wait(1)[0])
}

func TestPublisherInFlightLimits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		adjust func(*publish.Options)
		size   int
		want   int
	}{
		"messages":       {func(o *publish.Options) { o.MaxInFlight = 10 }, 100, 10},
		"bytes":          {func(o *publish.Options) { o.MaxBytesInFlight = 10_000 }, 2_000, 4},
		"one at a time":  {func(o *publish.Options) { o.MaxBytesInFlight = 10 }, 2_000, 1},
		"in number only": {func(o *publish.Options) {}, 0, 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var nc *nats.Conn
			s, p, o := toScripted(t, c.adjust, func(o *publish.Options) {
				connect := o.Connect
				o.Connect = func(extra ...nats.Option) (_ *nats.Conn, err error) {
					nc, err = connect(extra...)
					return nc, err
				}
			})
			p.Prove()
			const n = 100
			for i := range n {
				p.Publish(&bridge.Message{Token: uint64(i), Subject: []byte("t.x"), Payload: make([]byte, c.size)})
			}
			var held []*nats.Msg
			settled := 0
			for settled < n {
				// All sent messages have arrived once the server has answered.
				require.NoError(t, nc.Flush())
				require.NoError(t, s.nc.Flush())
				for len(s.messages) > 0 {
					held = append(held, <-s.messages)
				}
				require.Len(t, held, min(c.want, n-settled))
				for _, m := range held {
					s.answer(m, ackStored)
				}
				settled += len(held)
				o.Wait(len(held))
				held = held[:0]
			}
			require.Zero(t, p.Stats().Resent)
		})
	}
}

// Not parallel: it looks at the goroutines of the process.
func TestPublisherGoroutineLeak(t *testing.T) {
	var b numbered
	for name, use := range map[string]func(t *testing.T, url string, p *publish.Publisher, o *natstest.Outcomes){
		"unused": func(*testing.T, string, *publish.Publisher, *natstest.Outcomes) {},
		"settled": func(t *testing.T, url string, p *publish.Publisher, o *natstest.Outcomes) {
			s := newScripted(t, url)
			p.Publish(b.message(0))
			s.answer(s.next(0), ackStored)
			o.Wait(1)
			s.nc.Close()
		},
		"in flight": func(t *testing.T, url string, p *publish.Publisher, _ *natstest.Outcomes) {
			s := newScripted(t, url)
			p.Publish(b.message(0))
			s.next(0)
			s.nc.Close()
		},
		"probing": func(t *testing.T, _ string, p *publish.Publisher, _ *natstest.Outcomes) {
			p.Publish(b.message(0))
			requireProblem(t, p, publish.ErrNoResponders.Error())
		},
		"refused and not told": func(_ *testing.T, _ string, p *publish.Publisher, _ *natstest.Outcomes) {
			p.Publish(&bridge.Message{Subject: []byte("t.x"), Payload: make([]byte, 2<<20)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv := natstest.StartServer(t, nil)
			before := goleak.IgnoreCurrent()
			o := natstest.NewOutcomes(t)
			p := publisher(t, srv.URL(), o, longTimeout)
			use(t, srv.URL(), p, o)
			p.Close()
			p.Publish(b.message(1))
			p.Close()
			require.Zero(t, p.MaxPayload())
			require.False(t, p.Stats().Connected)
			srv.Close()
			goleak.VerifyNone(t, before)
		})
	}
	t.Run("never connected", func(t *testing.T) {
		srv := natstest.StartServer(t, nil)
		srv.Close()
		before := goleak.IgnoreCurrent()
		p := publisher(t, srv.URL(), natstest.NewOutcomes(t))
		p.Publish(b.message(0))
		p.Close()
		goleak.VerifyNone(t, before)
	})
}

// After Close, the caller may unmap what the settler uses: the journal's memory.
func TestPublisherCloseDuringSettle(t *testing.T) {
	t.Parallel()
	for name, message := range map[string]*bridge.Message{
		"on an answer":               {Subject: []byte("t.x")},
		"on a refusal by the client": {Subject: []byte("t.x"), Payload: make([]byte, 2<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := natstest.StartServer(t, nil)
			stream(t, natstest.JetStream(t, srv))
			o := natstest.NewOutcomes(t)
			entered, release, closed := make(chan struct{}), make(chan struct{}), make(chan struct{})
			o.Before = func() {
				close(entered)
				<-release
				select {
				case <-closed:
					t.Error("Close returned before the settler did")
				default:
				}
			}
			var nc *nats.Conn
			p := publisher(t, srv.URL(), o, func(o *publish.Options) {
				connect := o.Connect
				o.Connect = func(extra ...nats.Option) (_ *nats.Conn, err error) {
					nc, err = connect(extra...)
					return nc, err
				}
			})
			p.Publish(message)
			natstest.Receive(t, "a call of Settle", entered)
			go func() {
				p.Close()
				close(closed)
			}()
			require.Eventually(t, nc.IsClosed, testrun.Timeout, time.Millisecond)
			done := o.Done.Load()
			close(release)
			natstest.Receive(t, "the end of Close", closed)
			o.Wait(1)
			require.LessOrEqual(t, o.Done.Load(), done+1)
		})
	}
}
