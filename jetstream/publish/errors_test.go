package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/jetstream/conn"
)

// The classes of nats-server's error numbers (server/errors.json) and of
// nats.go's errors.
func TestErrorClasses(t *testing.T) {
	t.Parallel()
	api := func(code int) error { return &APIError{Code: 400, ErrCode: code, Description: "text"} }
	for class, errs := range map[Class][]error{
		Retry: {
			api(10008), api(10009), api(10118), api(10158), api(10023), api(10028), api(10047), api(10167), api(10002), api(10077),
			api(0), api(99999), // unknown: a retry loses nothing
			ErrNoResponders, ErrAckTimeout, conn.ErrDisconnected, ErrBadAck,
			nats.ErrConnectionClosed, nats.ErrReconnectBufExceeded, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrDisconnected,
			context.DeadlineExceeded, io.EOF, errors.New("anything"),
		},
		Reject: {api(10054), api(10097), api(10165), api(10166), nats.ErrMaxPayload, nats.ErrBadSubject},
		Stop: {
			api(10060), api(10109), api(10076), api(10039),
			// Not an error of the message, so no message is lost: nats.go returns it for each
			// message before it has reached a server.
			nats.ErrHeadersNotSupported,
			nats.ErrPermissionViolation,
		},
	} {
		for _, err := range errs {
			require.Equal(t, class, Classify(err), "%v", err)
			require.Equal(t, class, Classify(fmt.Errorf("publish: %w", err)), "%v, wrapped", err)
		}
	}
}

func TestAPIErrorText(t *testing.T) {
	t.Parallel()
	require.Equal(t, "JetStream error 10077: maximum messages exceeded",
		(&APIError{ErrCode: 10077, Description: "maximum messages exceeded"}).Error())
}
