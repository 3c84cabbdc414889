// Package advice maps errors to advice for operators. The libraries of this module return typed
// errors and know neither configuration keys nor commands. This package adds them, so that the log,
// /readyz and check give the same advice.
//
// Advice about the MQTT broker is in internal/mqttaccount, which ingest does not link. Advice about
// databases is next to the SQLSTATEs in internal/ingest and internal/registry, whose errors implement
// [Adviser].
package advice

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"mqtt-nats-bridge/internal/emqx"
	"mqtt-nats-bridge/jetstream/consume"
	"mqtt-nats-bridge/jetstream/publish"
)

// Adviser is an error with its own advice, from a package that knows the configuration.
type Adviser interface {
	error
	Advice() string
}

// For returns the advice about err in one sentence. It is empty if an operator can do nothing or only
// has to wait.
func For(err error) string {
	var own Adviser
	switch {
	case err == nil:
		return ""
	case errors.As(err, &own):
		return own.Advice()
	}
	for _, known := range sentinels {
		if errors.Is(err, known.err) {
			return known.advice
		}
	}
	for _, part := range []func(error) string{permission, connection, publishing, buckets} {
		if text := part(err); text != "" {
			return text
		}
	}
	return ""
}

// sentinels contains the advice about errors without details.
var sentinels = []struct {
	err    error
	advice string
}{
	{publish.ErrLookupDenied, "allow the bridge's NATS user to publish to $JS.API.STREAM.MSG.GET.<stream>; see nats.conf"},
	{publish.ErrNoResponders, "if this lasts, a stream is missing: run `mqtt-nats-bridge streams plan`"},
	{nats.ErrHeadersNotSupported, "headers are disabled on the server: remove no_header_support from its configuration"},
	{consume.ErrNoConsumer, "start the bridge, which creates it, or create it with `mqtt-nats-bridge streams apply`"},

	{emqx.ErrUnauthorized, "check mqtt.emqx.key and mqtt.emqx.secret_file against EMQX's API keys"},
	{emqx.ErrForbidden, "give the API key a role with read permission: viewer or administrator"},
	{emqx.ErrUnreachable, "check mqtt.emqx.api, and that EMQX's dashboard listener is running there"},
	{emqx.ErrNotFound, "check that EMQX 5.8 or later answers at mqtt.emqx.api"},
	{emqx.ErrUnexpected, "check that EMQX 5.8 or later answers at mqtt.emqx.api"},
}

// Append returns err with its advice appended to the text, for programs that print only the text.
func Append(err error) error {
	if text := For(err); text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// With returns err with text as its advice.
func With(err error, text string) error { return &advised{err, text} }

type advised struct {
	error
	advice string
}

func (a *advised) Advice() string { return a.advice }

func (a *advised) Unwrap() error { return a.error }
