package consume_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/consume"
	"mqtt-nats-bridge/jetstream/streams"
)

// shop is a server with a stream, a consumer and the quarantine.
type shop struct {
	t  *testing.T
	js natsjs.JetStream
	// spec returns the consumer's specification.
	spec streams.ConsumerSpec
}

func openShop(t *testing.T, spec streams.ConsumerSpec) *shop {
	t.Helper()
	s := &shop{t: t, js: natstest.JetStream(t, natstest.StartServer(t, nil)), spec: spec}
	s.spec.Stream, s.spec.Name = "T", "workers"
	_, err := streams.Manage(natstest.Context(t), s.js, streams.ManageCreate, []streams.Spec{
		{Name: "T", Subjects: []string{"t.>"}}, {Name: "QUARANTINE", Subjects: []string{"quarantine.>"}},
	}, []streams.ConsumerSpec{s.spec})
	require.NoError(t, err)
	return s
}

func (s *shop) publish(from, n int) {
	s.t.Helper()
	for i := from; i < from+n; i++ {
		_, err := s.js.Publish(natstest.Context(s.t), fmt.Sprintf("t.%d", i), fmt.Append(nil, i), natsjs.WithMsgID(fmt.Sprint("m", i)))
		require.NoError(s.t, err)
	}
}

// work runs workers; stop ends them and waits for them.
func (s *shop) work(o consume.Options) (w *consume.Workers, stop func()) {
	s.t.Helper()
	o.Stream, o.Consumer = s.spec.Stream, s.spec.Name
	if o.JetStream == nil {
		o.JetStream = s.js
	}
	if o.BatchWait == 0 {
		o.BatchWait = 50 * time.Millisecond
	}
	w, err := consume.NewWorkers(o)
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		natstest.Receive(s.t, "the end of the workers", done)
	})
	s.t.Cleanup(stop)
	return w, stop
}

// awaitAcknowledged waits until no message is undelivered or unacknowledged.
func (s *shop) awaitAcknowledged() {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		stream, err := s.js.Stream(natstest.Context(s.t), s.spec.Stream)
		require.NoError(s.t, err)
		info := s.info()
		// A consumer is notified of new messages asynchronously.
		return info.NumPending == 0 && info.NumAckPending == 0 && info.Delivered.Stream >= stream.CachedInfo().State.LastSeq
	}, testrun.Timeout, 10*time.Millisecond)
}

func (s *shop) info() *natsjs.ConsumerInfo {
	s.t.Helper()
	c, err := s.js.Consumer(natstest.Context(s.t), s.spec.Stream, s.spec.Name)
	require.NoError(s.t, err)
	return c.CachedInfo()
}

func (s *shop) quarantined() []*natsjs.RawStreamMsg {
	s.t.Helper()
	stream, err := s.js.Stream(natstest.Context(s.t), "QUARANTINE")
	require.NoError(s.t, err)
	var all []*natsjs.RawStreamMsg
	for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
		m, err := stream.GetMsg(natstest.Context(s.t), seq)
		require.NoError(s.t, err)
		all = append(all, m)
	}
	return all
}

// tally counts the messages passed to handlers.
type tally struct {
	mu   sync.Mutex
	seen map[string]int // by message id
}

func (c *tally) add(batch []*consume.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = map[string]int{}
	}
	for _, m := range batch {
		c.seen[m.ID()]++
	}
}

func (c *tally) of(id string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[id]
}

func (c *tally) distinct() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen)
}

func allDone(batch []*consume.Message) {
	for _, m := range batch {
		m.Ack()
	}
}

func TestWorkers(t *testing.T) {
	t.Parallel()
	t.Run("messages are shared between workers", testMessagesAreSharedBetweenWorkers)
	t.Run("no ack before handler settles message", testNoAckBeforeHandlerSettlesMessage)
	t.Run("ack wait is extended while batch is in progress", testAckWaitIsExtendedWhileBatchIsInProgress)
	t.Run("nak redelivers after its delay", testNakRedeliversAfterItsDelay)
	t.Run("unsettled message is redelivered", testUnsettledMessageIsRedelivered)
	t.Run("missing consumer is awaited", testMissingConsumerIsAwaited)
	t.Run("counts report consumer lag", testCountsReportConsumerLag)
	t.Run("messages without id get distinct ids", testMessagesWithoutIdGetDistinctIds)
}

func testMessagesAreSharedBetweenWorkers(t *testing.T) {
	t.Parallel()
	s := openShop(t, streams.ConsumerSpec{})
	var seen tally
	largest := make(chan int, 1000)
	handler := func(_ context.Context, batch []*consume.Message) {
		seen.add(batch)
		largest <- len(batch)
		allDone(batch)
	}
	s.publish(0, 500)
	a, _ := s.work(consume.Options{Handler: handler, Batch: 20, Workers: 2})
	b, _ := s.work(consume.Options{Handler: handler, Batch: 20, Workers: 2})
	s.publish(500, 500)
	s.awaitAcknowledged()
	require.Equal(t, 1000, seen.distinct())
	require.EqualValues(t, 1000, a.Counts().Acked+b.Counts().Acked)
	for len(largest) > 0 {
		require.LessOrEqual(t, <-largest, 20)
	}
}

func testNoAckBeforeHandlerSettlesMessage(t *testing.T) {
	t.Parallel()
	s := openShop(t, streams.ConsumerSpec{})
	s.publish(0, 3)
	in, out := make(chan int), make(chan struct{})
	w, _ := s.work(consume.Options{Workers: 1, Handler: func(_ context.Context, batch []*consume.Message) {
		in <- len(batch)
		<-out
		allDone(batch)
	}})
	require.Equal(t, 3, natstest.Receive(t, "the batch", in))
	require.Equal(t, 3, s.info().NumAckPending)
	require.Equal(t, 3, w.Counts().InProgress)
	require.Positive(t, w.Counts().OldestAge)
	close(out)
	s.awaitAcknowledged()
}

func testAckWaitIsExtendedWhileBatchIsInProgress(t *testing.T) {
	t.Parallel()
	s := openShop(t, streams.ConsumerSpec{AckWait: 3 * time.Second})
	s.publish(0, 5)
	var seen tally
	deliveries := make(chan struct{}, 100)
	_, stop := s.work(consume.Options{Workers: 2, Handler: func(ctx context.Context, batch []*consume.Message) {
		seen.add(batch)
		deliveries <- struct{}{}
		select { // more than twice the ack wait, which leaves a busy machine seconds to extend it
		case <-time.After(7 * time.Second):
		case <-ctx.Done():
		}
		allDone(batch)
	}})
	natstest.Receive(t, "the batch", deliveries)
	s.awaitAcknowledged()
	stop()
	for i := range 5 {
		require.Equal(t, 1, seen.of(fmt.Sprint("m", i)), "delivered twice, though its worker was at it")
	}
}

func testNakRedeliversAfterItsDelay(t *testing.T) {
	t.Parallel()
	s := openShop(t, streams.ConsumerSpec{})
	s.publish(0, 4)
	var mu sync.Mutex
	first := map[string]time.Time{}
	gaps := make(chan time.Duration, 4)
	_, _ = s.work(consume.Options{Handler: func(_ context.Context, batch []*consume.Message) {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range batch {
			switch {
			case m.ID() == "m0":
				m.Ack()
			case m.Delivered == 1:
				first[m.ID()] = time.Now()
				m.Nak(400 * time.Millisecond)
			default:
				gaps <- time.Since(first[m.ID()])
				m.Ack()
			}
		}
	}})
	for range 3 {
		require.GreaterOrEqual(t, natstest.Receive(t, "a redelivery", gaps), 400*time.Millisecond)
	}
	s.awaitAcknowledged()
}

func testUnsettledMessageIsRedelivered(t *testing.T) {
	t.Parallel()
	s := openShop(t, streams.ConsumerSpec{})
	s.publish(0, 1)
	deliveries := make(chan uint64, 10)
	w, _ := s.work(consume.Options{Handler: func(_ context.Context, batch []*consume.Message) {
		deliveries <- batch[0].Delivered
		if batch[0].Delivered > 1 {
			batch[0].Ack()
		}
	}})
	require.EqualValues(t, 1, natstest.Receive(t, "the first delivery", deliveries))
	require.EqualValues(t, 2, natstest.Receive(t, "the second", deliveries))
	s.awaitAcknowledged()
	require.EqualValues(t, 1, w.Counts().Retried)
}

func TestWorkersDeadLetter(t *testing.T) {
	t.Parallel()
	t.Run("message is copied to quarantine", testMessageIsCopiedToQuarantine)
	t.Run("message waits for quarantine stream", testMessageWaitsForQuarantineStream)
	t.Run("long subject does not end connection", testLongSubjectDoesNotEndConnection)
	t.Run("server max deliver ends in quarantine", testServerMaxDeliverEndsInQuarantine)
}

func testMessageIsCopiedToQuarantine(t *testing.T) {
	t.Parallel()
	s := openShop(t, streams.ConsumerSpec{})
	msg := &nats.Msg{Subject: "t.tenant.x%2Ey", Data: []byte("{"), Header: nats.Header{
		"Nats-Msg-Id": {"abc"}, "Bridge-Cn": {"acme/dev-1"}, "Nats-Expected-Stream": {"T"}, "Other": {"kept"},
	}}
	_, err := s.js.PublishMsg(natstest.Context(t), msg)
	require.NoError(t, err)
	s.publish(0, 2)
	w, _ := s.work(consume.Options{Handler: func(_ context.Context, batch []*consume.Message) {
		for _, m := range batch {
			if m.ID() == "abc" {
				m.DeadLetter(errors.New("not\r\nJSON"))
			} else {
				m.Ack()
			}
		}
	}})
	s.awaitAcknowledged()
	all := s.quarantined()
	require.Len(t, all, 1)
	m := all[0]
	require.Equal(t, "quarantine.bad_payload.t.tenant.x%2Ey", m.Subject)
	require.Equal(t, "{", string(m.Data))
	for name, want := range map[string]string{
		"Bridge-Reason": "bad_payload", "Bridge-Detail": "not  JSON", "Bridge-Msg-Id": "abc", "Nats-Msg-Id": "abc.bad_payload",
		"Bridge-Cn": "acme/dev-1", "Other": "kept", "Mqtt-Topic": "t/tenant/x.y", "Nats-Expected-Stream": "",
	} {
		require.Equal(t, want, m.Header.Get(name), name)
	}
	require.EqualValues(t, 1, w.Counts().Quarantined)
	require.EqualValues(t, 2, w.Counts().Acked)
}

func testMessageWaitsForQuarantineStream(t *testing.T) {
	t.Parallel()
	s := openShop(t, streams.ConsumerSpec{})
	require.NoError(t, s.js.DeleteStream(natstest.Context(t), "QUARANTINE"))
	s.publish(0, 1)
	held := make(chan error, 100)
	_, _ = s.work(consume.Options{
		Handler: func(_ context.Context, batch []*consume.Message) { batch[0].DeadLetter(errors.New("bad")) },
		Hooks:   consume.Hooks{QuarantineProblem: func(err error) { held <- err }},
	})
	require.ErrorContains(t, natstest.Receive(t, "word of it", held), "quarantine")
	require.Equal(t, 1, s.info().NumAckPending)
	_, err := s.js.CreateStream(natstest.Context(t), natsjs.StreamConfig{Name: "QUARANTINE", Subjects: []string{"quarantine.>"}})
	require.NoError(t, err)
	s.awaitAcknowledged()
	require.Len(t, s.quarantined(), 1)
	require.NoError(t, natstest.Receive(t, "word that it is well again", held))
}

// testLongSubjectDoesNotEndConnection uses a subject that exceeds the protocol's line length once
// it is prefixed with quarantine.
func testLongSubjectDoesNotEndConnection(t *testing.T) {
	t.Parallel()
	s := openShop(t, streams.ConsumerSpec{})
	subject := "t.some." + strings.Repeat("x", 4050)
	require.NoError(t, s.js.Conn().Publish(subject, []byte("bad")))
	// Without a PubAck, which does not fit in the line, Flush does not wait for the stream.
	require.Eventually(t, func() bool {
		stream, err := s.js.Stream(natstest.Context(t), "T")
		return err == nil && stream.CachedInfo().State.LastSeq == 1
	}, testrun.Timeout, 10*time.Millisecond)
	before := s.js.Conn().Stats().Reconnects
	_, _ = s.work(consume.Options{Handler: func(_ context.Context, batch []*consume.Message) {
		for _, m := range batch {
			m.DeadLetter(errors.New("no good"))
		}
	}})
	s.awaitAcknowledged()
	require.Equal(t, before, s.js.Conn().Stats().Reconnects)
	all := s.quarantined()
	require.Len(t, all, 1)
	require.Equal(t, "quarantine.bad_payload.t.some", all[0].Subject)
	require.Equal(t, "no good; its subject of 4057 bytes is too long to be kept here, see sequence 1 of stream T", all[0].Header.Get("Bridge-Detail"))
	require.Equal(t, "3", all[0].Header.Get("Bridge-Size"))
	require.Empty(t, all[0].Data)
}

func TestWorkersMaxDeliveries(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string]streams.ConsumerSpec{
		"counted by the workers": {AckWait: time.Minute},
		"limited by the server":  {AckWait: time.Minute, MaxDeliver: 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openShop(t, spec)
			s.publish(0, 2)
			var seen tally
			_, _ = s.work(consume.Options{MaxDeliveries: 3, Handler: func(_ context.Context, batch []*consume.Message) {
				seen.add(batch)
				for _, m := range batch {
					if m.ID() == "m0" {
						m.Nak(0) // as if its worker had died
					} else {
						m.Ack()
					}
				}
			}})
			s.awaitAcknowledged()
			all := s.quarantined()
			require.Len(t, all, 1)
			require.Equal(t, "m0", all[0].Header.Get("Bridge-Msg-Id"))
			require.Contains(t, all[0].Header.Get("Bridge-Detail"), "given up after 3 deliveries")
			require.Equal(t, 3, seen.of("m0"))
			require.Equal(t, 1, seen.of("m1"))
		})
	}
}

// testServerMaxDeliverEndsInQuarantine uses up the deliveries with a client that does not count
// them.
func testServerMaxDeliverEndsInQuarantine(t *testing.T) {
	t.Parallel()
	s := openShop(t, streams.ConsumerSpec{MaxDeliver: 1})
	handled := make(chan string, 10)
	_, _ = s.work(consume.Options{Handler: func(_ context.Context, batch []*consume.Message) {
		for _, m := range batch {
			m.Nak(0) // the first delivery is the last
			handled <- m.ID()
		}
	}})
	s.publish(0, 1)
	natstest.Receive(t, "the only delivery", handled)
	require.Eventually(t, func() bool { return len(s.quarantined()) == 1 }, testrun.Timeout, 10*time.Millisecond)
	require.Contains(t, s.quarantined()[0].Header.Get("Bridge-Detail"), "max_deliver")
	require.Equal(t, "m0", s.quarantined()[0].Header.Get("Bridge-Msg-Id"))
}

func TestWorkersStop(t *testing.T) {
	t.Parallel()
	t.Run("batch is finished and no other begins", testBatchIsFinishedAndNoOtherBegins)
	t.Run("batch is returned after stop timeout", testBatchIsReturnedAfterStopTimeout)
}

func testBatchIsFinishedAndNoOtherBegins(t *testing.T) {
	t.Parallel()
	s := openShop(t, streams.ConsumerSpec{})
	s.publish(0, 10)
	in, out := make(chan struct{}, 10), make(chan struct{})
	w, stop := s.work(consume.Options{Workers: 1, Batch: 5, Handler: func(_ context.Context, batch []*consume.Message) {
		in <- struct{}{}
		<-out
		allDone(batch)
	}})
	natstest.Receive(t, "the batch", in)
	time.AfterFunc(100*time.Millisecond, func() { close(out) })
	stop()
	require.EqualValues(t, 5, w.Counts().Acked)
	require.Empty(t, in, "a batch after the stop")
	// The acknowledgements were sent, so no goroutine waits for them.
	require.Eventually(t, func() bool { return s.info().NumAckPending == 0 && s.info().NumPending == 5 }, testrun.Timeout, 10*time.Millisecond)
}

func testBatchIsReturnedAfterStopTimeout(t *testing.T) {
	t.Parallel()
	s := openShop(t, streams.ConsumerSpec{})
	s.publish(0, 5)
	in := make(chan struct{}, 10)
	_, stop := s.work(consume.Options{Workers: 1, StopTimeout: 50 * time.Millisecond, Handler: func(ctx context.Context, _ []*consume.Message) {
		in <- struct{}{}
		<-ctx.Done()
	}})
	natstest.Receive(t, "the batch", in)
	stop()
	// Another worker gets them immediately, before the ack wait of 30 s ends.
	again := make(chan int, 10)
	_, _ = s.work(consume.Options{Handler: func(_ context.Context, batch []*consume.Message) {
		again <- len(batch)
		allDone(batch)
	}})
	for n := 0; n < 5; {
		n += natstest.Receive(t, "the nak'ed messages", again)
	}
}

func TestWorkersBatchBytes(t *testing.T) {
	t.Parallel()
	t.Run("larger message is delivered", testLargerMessageIsDelivered)
	t.Run("larger message over slow link", testLargerMessageOverSlowLink)
}

func testLargerMessageIsDelivered(t *testing.T) {
	t.Parallel()
	s := openShop(t, streams.ConsumerSpec{})
	sizes := []int{10, 300_000, 20, 400_000, 30}
	for i, size := range sizes {
		_, err := s.js.Publish(natstest.Context(t), fmt.Sprint("t.", i), make([]byte, size))
		require.NoError(t, err)
	}
	var mu sync.Mutex
	var got []int
	_, _ = s.work(consume.Options{Workers: 1, BatchBytes: 100_000, BatchWait: time.Second, Handler: func(_ context.Context, batch []*consume.Message) {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range batch {
			got = append(got, len(m.Data))
			m.Ack()
		}
	}})
	s.awaitAcknowledged()
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, sizes, got)
}

// testLargerMessageOverSlowLink uses a link on which the server's reply that the message is too
// large takes most of the pull's timeout.
func testLargerMessageOverSlowLink(t *testing.T) {
	t.Parallel()
	s := openShop(t, streams.ConsumerSpec{})
	_, err := s.js.Publish(natstest.Context(t), "t.large", make([]byte, 20_000))
	require.NoError(t, err)
	s.publish(0, 1)
	link := peers.Proxy(t, s.js.Conn().ConnectedAddr())
	nc, err := conn.Connect(conn.Options{URL: "nats://" + link.Addr, Name: t.Name()})
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	link.Impair(peers.Impairment{Latency: 80 * time.Millisecond}, peers.Impairment{Latency: 80 * time.Millisecond})
	_, _ = s.work(consume.Options{JetStream: js, Workers: 1, BatchBytes: 10_000, BatchWait: 200 * time.Millisecond, Handler: func(_ context.Context, batch []*consume.Message) {
		for _, m := range batch {
			m.Ack()
		}
	}})
	s.awaitAcknowledged()
}

func testMissingConsumerIsAwaited(t *testing.T) {
	t.Parallel()
	s := openShop(t, streams.ConsumerSpec{})
	require.NoError(t, s.js.DeleteConsumer(natstest.Context(t), "T", "workers"))
	s.publish(0, 3)
	trouble := make(chan error, 100)
	_, _ = s.work(consume.Options{
		Handler: func(_ context.Context, batch []*consume.Message) { allDone(batch) },
		Hooks:   consume.Hooks{FetchProblem: func(err error) { trouble <- err }},
	})
	require.ErrorContains(t, natstest.Receive(t, "word that it is missing", trouble), "consumer T/workers does not exist")
	_, err := streams.Manage(natstest.Context(t), s.js, streams.ManageCreate, nil, []streams.ConsumerSpec{s.spec})
	require.NoError(t, err)
	// A new consumer may not answer the first pull.
	for natstest.Receive(t, "word that it goes on", trouble) != nil {
	}
	s.awaitAcknowledged()
	// If the consumer is deleted, the workers notice that and wait again.
	require.NoError(t, s.js.DeleteConsumer(natstest.Context(t), "T", "workers"))
	require.Eventually(t, func() bool {
		select {
		case err := <-trouble:
			return err != nil
		default:
			return false
		}
	}, testrun.Timeout, 10*time.Millisecond)
}

func testCountsReportConsumerLag(t *testing.T) {
	t.Parallel()
	s := openShop(t, streams.ConsumerSpec{})
	s.publish(0, 7)
	out := make(chan struct{})
	w, _ := s.work(consume.Options{Workers: 1, Batch: 2, Handler: func(_ context.Context, batch []*consume.Message) {
		<-out
		allDone(batch)
	}})
	require.Eventually(t, func() bool {
		c := w.Counts()
		return c.Pending == 5 && c.AckPending == 2 && !c.ObservedAt.IsZero()
	}, testrun.Timeout, 10*time.Millisecond)
	close(out)
	require.Eventually(t, func() bool { c := w.Counts(); return c.Pending+c.AckPending == 0 }, testrun.Timeout, 10*time.Millisecond)
}

func TestWorkersInvalidOptions(t *testing.T) {
	t.Parallel()
	js := natstest.JetStream(t, natstest.StartServer(t, nil))
	handler := func(context.Context, []*consume.Message) {}
	for want, o := range map[string]consume.Options{
		"JetStream is required":         {Stream: "T", Consumer: "c", Handler: handler},
		"handler is required":           {JetStream: js, Stream: "T", Consumer: "c"},
		"names of a stream":             {JetStream: js, Stream: "T.x", Consumer: "c", Handler: handler},
		"names of a stream and a consu": {JetStream: js, Stream: "T", Handler: handler},
		"negative":                      {JetStream: js, Stream: "T", Consumer: "c", Handler: handler, Workers: -1},
	} {
		_, err := consume.NewWorkers(o)
		require.ErrorContains(t, err, want)
	}
}

func testMessagesWithoutIdGetDistinctIds(t *testing.T) {
	t.Parallel()
	s := openShop(t, streams.ConsumerSpec{})
	for range 3 {
		_, err := s.js.Publish(natstest.Context(t), "t.same", []byte("same"))
		require.NoError(t, err)
	}
	var mu sync.Mutex
	var ids []string
	_, _ = s.work(consume.Options{Handler: func(_ context.Context, batch []*consume.Message) {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range batch {
			ids = append(ids, m.ID())
			m.Ack()
		}
	}})
	s.awaitAcknowledged()
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(ids)
	require.Len(t, slices.Compact(ids), 3)
}
