// Package advice is the table of what an operator can do about an error. The libraries of
// this module return typed errors and know neither keys of the configuration nor commands;
// the texts about them are here, so that the log, /readyz and check say the same.
//
// What can be done about the MQTT broker is in internal/mqttaccount, which ingest does
// not link; what can be done about a database, with the SQLSTATEs in internal/ingest and
// internal/registry, whose errors bring it along as an [Adviser].
package advice

import (
	"errors"
	"fmt"
)

// Adviser is an error of a package that knows the configuration, and what to do about it.
type Adviser interface {
	error
	Advice() string
}

// For is what an operator can do about err, in one sentence; empty where there is nothing,
// or where waiting is all.
func For(err error) string {
	var own Adviser
	switch {
	case err == nil:
		return ""
	case errors.As(err, &own):
		return own.Advice()
	}
	for _, part := range []func(error) string{permission, connection, bucket, streamed, consumer, emqxAPI, leases} {
		if text := part(err); text != "" {
			return text
		}
	}
	return ""
}

// Append returns err with its advice appended to the text, for programs that print only that.
func Append(err error) error {
	if text := For(err); text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// With is err with an advice of its own.
func With(err error, text string) error { return &advised{err, text} }

type advised struct {
	error
	advice string
}

func (a *advised) Advice() string { return a.advice }

func (a *advised) Unwrap() error { return a.error }
