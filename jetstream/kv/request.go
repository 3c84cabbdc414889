package kv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/jetstream/conn"
)

// info reads the state of the bucket's stream.
func (b *Bucket) info(ctx context.Context, cancel context.CancelCauseFunc) (*natsjs.StreamInfo, error) {
	stream, err := request(ctx, b, cancel, func() (natsjs.Stream, error) { return b.o.JetStream.Stream(ctx, "KV_"+b.o.Name) })
	if err != nil {
		return nil, err
	}
	return stream.CachedInfo(), nil
}

// watch creates a watcher that lives as long as ctx.
func (b *Bucket) watch(ctx context.Context, cancel context.CancelCauseFunc) (natsjs.KeyWatcher, error) {
	kv, err := request(ctx, b, cancel, func() (natsjs.KeyValue, error) { return b.o.JetStream.KeyValue(ctx, b.o.Name) })
	if err != nil {
		return nil, err
	}
	return request(ctx, b, cancel, func() (natsjs.KeyWatcher, error) { return kv.WatchAll(ctx) })
}

// request sends a request. ctx ends after requestTimeout, or when Denied reports that the user
// lacks the permission. A watcher lives as long as the context of its request.
func request[T any](ctx context.Context, b *Bucket, cancel context.CancelCauseFunc, send func() (T, error)) (T, error) {
	timeout := time.AfterFunc(requestTimeout, func() { cancel(context.DeadlineExceeded) })
	defer timeout.Stop()
	value, err := send()
	if err == nil {
		return value, nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	switch {
	case errors.Is(err, natsjs.ErrBucketNotFound), errors.Is(err, natsjs.ErrStreamNotFound):
		err = &MissingError{b.o.Name}
	case errors.Is(err, natsjs.ErrBadBucket):
		err = fmt.Errorf("stream KV_%s is not a KV bucket", b.o.Name)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		err = fmt.Errorf("JetStream did not answer within %s", requestTimeout)
	}
	return value, conn.Disconnected(err)
}

// stopWatcher also drains the watcher, because its callback would otherwise block forever on the
// channel of updates. Without a connection the consumer is not deleted; the server removes it after
// a while.
func stopWatcher(w natsjs.KeyWatcher) {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = w.Stop()
	}()
	timeout := time.After(requestTimeout)
	for updates := w.Updates(); updates != nil; {
		select {
		case _, ok := <-updates:
			if !ok {
				updates = nil
			}
		case <-timeout:
			updates = nil
		}
	}
	<-stopped
}
