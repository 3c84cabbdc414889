package advice_test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/emqx"
	"mqtt-nats-bridge/internal/lease"
	"mqtt-nats-bridge/internal/tlsfile"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/consume"
	"mqtt-nats-bridge/jetstream/kv"
	"mqtt-nats-bridge/jetstream/publish"
)

func TestFor(t *testing.T) {
	t.Parallel()
	connect := func(err error) error { return conn.Classify(err, "nats://h:1") }
	for _, test := range []struct {
		err  error
		says string
	}{
		{connect(syscall.ECONNREFUSED), "nothing listens there"},
		{connect(nats.ErrMaxConnectionsExceeded), "raise max_connections"},
		{connect(nats.ErrSecureConnWanted), "write nats:// in nats.url"},
		{connect(nats.ErrAuthorization), "read again at each connect"},
		{fmt.Errorf("%w: Permissions Violation for Publish to \"$JS.API.STREAM.CREATE.X\"", nats.ErrPermissionViolation), "allow the NATS user to publish to $JS.API.STREAM.CREATE.X, or create the stream manually"},
		{fmt.Errorf("%w: Permissions Violation for Subscription to \"_INBOX.>\"", nats.ErrPermissionViolation), "allow the NATS user to subscribe to _INBOX.>;"},
		{nats.ErrPermissionViolation, "nats.conf contains all"},
		{connect(&conn.LocalFileError{Err: tlsfile.ErrEncryptedKey}), "nats.tls.passphrase_file"},
		{&publish.APIError{ErrCode: 10060}, "nats stream info"},
		{&publish.APIError{ErrCode: 10109}, "nats stream info"},
		{&publish.APIError{ErrCode: 10076}, "enable JetStream"},
		{&publish.APIError{ErrCode: 10039}, "for the account"},
		{&publish.APIError{ErrCode: 10077}, "discards new messages"},
		{&natsjs.APIError{ErrorCode: 10077}, "discards new messages"},
		{&publish.APIError{ErrCode: 10002}, "raise the JetStream limits"},
		{&publish.APIError{ErrCode: 10028}, "raise the JetStream limits"},
		{&publish.APIError{ErrCode: 10047}, "raise the JetStream limits"},
		{&publish.APIError{ErrCode: 10023}, "raise the JetStream limits"},
		{publish.ErrNoResponders, "mqtt-nats-bridge streams plan"},
		{conn.Explain(&natsjs.APIError{ErrorCode: 10047}, ""), "raise the JetStream limits"},
		{conn.Explain(&natsjs.APIError{ErrorCode: 10028}, ""), "raise the JetStream limits"},
		{nats.ErrHeadersNotSupported, "no_header_support"},
		{&kv.MissingError{Bucket: "B"}, "nats kv add B"},
		{&lease.MissingError{Bucket: "L", TTL: time.Second, Replicas: 3}, "nats kv add L --ttl 1s --replicas 3"},
		{&lease.TTLError{Bucket: "L"}, "nats kv edit L --ttl"},
		{&lease.BucketError{Cause: errors.New("anything")}, "check --connect"},
		{&lease.BucketError{Cause: &lease.TTLError{Bucket: "L"}}, "nats kv edit L --ttl"},
		{&lease.BucketError{Cause: conn.ErrDisconnected}, "check that nats-server runs"},
		{&lease.OtherBrokerError{}, "a different mqtt.client_id"},
		{conn.ErrDisconnected, "check that nats-server runs"},
		{consume.ErrNoConsumer, "mqtt-nats-bridge streams apply"},
		{emqx.ErrUnauthorized, "mqtt.emqx.key"},
		{advice.With(nats.ErrPermissionViolation, "another"), "another"},
	} {
		require.Contains(t, advice.For(fmt.Errorf("try: %w", test.err)), test.says, "%v", test.err)
	}
	for _, err := range []error{nil, errors.New("anything"), publish.ErrAckTimeout, &publish.APIError{ErrCode: 10009}} {
		require.Empty(t, advice.For(err), "%v", err)
	}
	require.ErrorIs(t, advice.With(nats.ErrTimeout, "wait"), nats.ErrTimeout)
}
