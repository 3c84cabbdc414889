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
	for _, part := range []func(error) string{lookup, permission, connection, bucket, publishing, consumer, emqxAPI, leases} {
		if text := part(err); text != "" {
			return text
		}
	}
	return ""
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
