package consume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/internal/sleep"
	"mqtt-nats-bridge/jetstream/conn"
)

// watchAdvisories handles messages that the server has given up on, because the consumer has a
// max_deliver and the worker of the last delivery ended. The advisory is an ordinary message and is
// lost if there is no subscriber. So the workers count deliveries themselves
// ([Options].MaxDeliveries) and use the server's last delivery for quarantine; this function
// handles the remaining cases.
func (w *Workers) watchAdvisories(ctx context.Context) {
	subject := "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES." + w.o.Stream + "." + w.o.Consumer
	advisories := make(chan *nats.Msg, 1024)
	// Each advisory goes to one process of the queue group.
	sub, err := w.o.JetStream.Conn().ChanQueueSubscribe(subject, w.o.Consumer, advisories)
	if err != nil {
		w.quarantineProblem.set(fmt.Errorf("listen for messages given up on: %w", err))
		return
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection may be closed
	for {
		select {
		case <-ctx.Done():
			return
		case msg := <-advisories:
			w.quarantineAdvised(ctx, msg.Data)
		}
	}
}

// quarantineAdvised stores the message of an advisory in quarantine and retries until that
// succeeds.
func (w *Workers) quarantineAdvised(ctx context.Context, advisory []byte) {
	var a struct {
		Sequence   uint64 `json:"stream_seq"`
		Deliveries uint64 `json:"deliveries"`
	}
	if json.Unmarshal(advisory, &a) != nil || a.Sequence == 0 {
		return // not a known form of advisory
	}
	for wait := retryMin; ; wait = min(2*wait, retryMax) {
		err := w.quarantineSequence(ctx, a.Sequence, a.Deliveries)
		if err == nil || errors.Is(err, natsjs.ErrMsgNotFound) {
			w.quarantineProblem.set(nil)
			return
		}
		w.quarantineProblem.set(err)
		if !sleep.For(ctx, wait) {
			return
		}
	}
}

func (w *Workers) quarantineSequence(ctx context.Context, sequence, deliveries uint64) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := w.o.JetStream.Stream(ctx, w.o.Stream)
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", w.o.Stream, conn.Explain(err, conn.APISubject(w.o.JetStream, "STREAM.INFO."+w.o.Stream)))
	}
	raw, err := stream.GetMsg(ctx, sequence)
	if err != nil {
		get := "STREAM.MSG.GET."
		if stream.CachedInfo().Config.AllowDirect {
			get = "DIRECT.GET."
		}
		return fmt.Errorf("read message %d of stream %s: %w", sequence, w.o.Stream, conn.Explain(err, conn.APISubject(w.o.JetStream, get+w.o.Stream)))
	}
	m := &Message{
		Subject: raw.Subject, Data: raw.Data, Header: raw.Header,
		Stream: w.o.Stream, Sequence: sequence, Time: raw.Time, Delivered: deliveries,
	}
	return w.quarantine(ctx, m, fmt.Errorf("given up after %d deliveries, the consumer's max_deliver: no attempt has ended with a result", deliveries))
}

// pollConsumer periodically reads how far behind the consumer is.
func (w *Workers) pollConsumer(ctx context.Context) {
	for {
		// Another process may have quarantined the message, or it may have left its stream. Nothing
		// reports that here.
		w.quarantineProblem.expire(problemExpiry)
		if w.o.JetStream.Conn().IsConnected() {
			reqCtx, cancel := context.WithTimeout(ctx, requestTimeout)
			consumer, err := w.o.JetStream.Consumer(reqCtx, w.o.Stream, w.o.Consumer)
			cancel()
			if err == nil {
				info := consumer.CachedInfo()
				w.counts.pending.Store(info.NumPending)
				w.counts.ackPending.Store(uint64(info.NumAckPending))
				w.counts.observed.Store(time.Now().UnixNano())
			}
		}
		if !sleep.For(ctx, pollInterval) {
			return
		}
	}
}

const (
	pollInterval = 2 * time.Second
	// problemExpiry exceeds the longest delay before a message's next delivery.
	problemExpiry = 3 * retryMax
)
