package conn

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// Disconnected returns ErrDisconnected if err is nats.go's error for a request that was not sent
// for lack of a connection. Otherwise it returns err.
func Disconnected(err error) error {
	if errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrConnectionClosed) {
		return ErrDisconnected
	}
	return err
}

// APISubject returns the subject to which js sends an API request, with its domain or prefix.
func APISubject(js natsjs.JetStream, request string) string {
	o := js.Options()
	return apiPrefix(o.Domain, o.APIPrefix) + "." + request
}

// apiPrefix returns the prefix of the subjects of JetStream's API at a domain or prefix.
func apiPrefix(domain, prefix string) string {
	switch {
	case domain != "":
		return "$JS." + domain + ".API"
	case prefix != "":
		return strings.TrimSuffix(prefix, ".")
	}
	return "$JS.API"
}

// Explain adds the likely cause to an error of a request on subject. A request without permission
// gets no answer at all: the refusal goes to the connection's error handler.
func Explain(err error, subject string) error {
	switch err = Disconnected(err); {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return fmt.Errorf("no answer on %s: the user may lack the permission, or the cluster has no leader: %w", subject, err)
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, natsjs.ErrJetStreamNotEnabled), errors.Is(err, natsjs.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("JetStream is not enabled for this account, or has another domain: %w", err)
	}
	if refused, ok := errors.AsType[*natsjs.APIError](err); ok && (refused.ErrorCode == 10074 || refused.ErrorCode == 10005) { // replicas > 1 without a cluster; too few peers
		return fmt.Errorf("the cluster cannot place that many replicas: %w", err)
	}
	return err
}
