package check

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/jetstream/conn"
)

// ask sends one request with a context that ends after answerTimeout, or immediately if NATS reports
// a permission violation, which is then the error.
func ask[T any](ctx context.Context, n *natsCheck, send func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	ctx, stop := n.violations.Guard(ctx, func(*conn.PermissionError) bool { return true })
	defer stop()
	answer, err := send(ctx)
	if denied := conn.Permission(context.Cause(ctx)); denied != nil {
		return answer, denied
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %s: %w", answerTimeout, err)
	}
	return answer, err
}

// request asks with a message.
func (n *natsCheck) request(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	return ask(ctx, n, func(ctx context.Context) (*nats.Msg, error) { return n.nc.RequestMsgWithContext(ctx, m) })
}

// stream asks for the state of a stream.
func (n *natsCheck) stream(ctx context.Context, name string) (*natsjs.StreamInfo, error) {
	stream, err := ask(ctx, n, func(ctx context.Context) (natsjs.Stream, error) { return n.js.Stream(ctx, name) })
	if err != nil {
		return nil, err
	}
	return stream.CachedInfo(), nil
}

// refused reports whether NATS answered a request with a permission violation.
func refused(err error) bool { return conn.Permission(err) != nil }
