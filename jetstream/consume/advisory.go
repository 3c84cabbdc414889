package consume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/jetstream/conn"
)

// watchAdvisories takes care of messages that the server has given up on: those of
// a consumer with a max_deliver of its own, whose last delivery ended with its
// worker. The advisory is an ordinary message, lost where nobody listens. That is
// why the limit belongs to the workers ([Options].MaxDeliveries), and why
// they leave the server's last delivery to quarantine: this is for what is left.
func (w *Workers) watchAdvisories(ctx context.Context) {
	subject := "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES." + w.o.Stream + "." + w.o.Consumer
	given := make(chan *nats.Msg, 1024)
	// One process of all takes each.
	sub, err := w.o.JetStream.Conn().ChanQueueSubscribe(subject, w.o.Consumer, given)
	if err != nil {
		w.held.set(fmt.Errorf("listen for messages given up on: %w", err))
		return
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection may be gone
	for {
		select {
		case <-ctx.Done():
			return
		case msg := <-given:
			w.recover(ctx, msg.Data)
		}
	}
}

// recover puts the message of an advisory into quarantine, for as long as that
// takes.
func (w *Workers) recover(ctx context.Context, advisory []byte) {
	var a struct {
		Sequence   uint64 `json:"stream_seq"`
		Deliveries uint64 `json:"deliveries"`
	}
	if json.Unmarshal(advisory, &a) != nil || a.Sequence == 0 {
		return // no advisory of a known form
	}
	for wait := retryMin; ; wait = min(2*wait, retryMax) {
		err := w.recoverSequence(ctx, a.Sequence, a.Deliveries)
		if err == nil || errors.Is(err, natsjs.ErrMsgNotFound) {
			w.held.set(nil)
			return
		}
		w.held.set(err)
		if !pause(ctx, wait) {
			return
		}
	}
}

func (w *Workers) recoverSequence(ctx context.Context, sequence, deliveries uint64) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := w.o.JetStream.Stream(ctx, w.o.Stream)
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", w.o.Stream, conn.Explain(err, "$JS.API.STREAM.INFO."+w.o.Stream))
	}
	raw, err := stream.GetMsg(ctx, sequence)
	if err != nil {
		return fmt.Errorf("read message %d of stream %s: %w", sequence, w.o.Stream, conn.Explain(err, "$JS.API.DIRECT.GET."+w.o.Stream))
	}
	m := &Message{
		Subject: raw.Subject, Data: raw.Data, Header: raw.Header,
		Stream: w.o.Stream, Sequence: sequence, Time: raw.Time, Delivered: deliveries,
	}
	return w.quarantine(ctx, m, fmt.Errorf("given up after %d deliveries, the consumer's max_deliver: no attempt has ended with a result", deliveries))
}

// observe asks now and then how far behind the consumer is.
func (w *Workers) observe(ctx context.Context) {
	for {
		// A message that was held here may have gone to quarantine by another
		// process, or out of its stream: nothing here would ever tell.
		w.held.expire(heldFor)
		if w.o.JetStream.Conn().IsConnected() {
			ask, cancel := context.WithTimeout(ctx, requestTimeout)
			consumer, err := w.o.JetStream.Consumer(ask, w.o.Stream, w.o.Consumer)
			cancel()
			if err == nil {
				info := consumer.CachedInfo()
				w.counts.pending.Store(info.NumPending)
				w.counts.ackPending.Store(uint64(info.NumAckPending))
				w.counts.observed.Store(time.Now().UnixNano())
			}
		}
		if !pause(ctx, observeEvery) {
			return
		}
	}
}

const (
	observeEvery = 2 * time.Second
	// heldFor is longer than a held message waits for its next delivery.
	heldFor = 3 * retryMax
)
