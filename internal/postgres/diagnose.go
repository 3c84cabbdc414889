// Package postgres configures connections to PostgreSQL and diagnoses failed ones, for both
// programs.
package postgres

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"mqtt-nats-bridge/internal/neterror"
	"mqtt-nats-bridge/internal/tlsfile"
)

// Diagnose returns the problem of a server that pgx reached but could not connect to, and the
// advice. setting is the configuration key of its URL. Both are empty if no server was reached, or
// if PostgreSQL itself answered: its error is self-explanatory.
func Diagnose(err error, setting string) (problem, advice string) {
	var attempt *pgconn.ConnectError
	var answer *pgconn.PgError
	if !errors.As(err, &attempt) || errors.As(err, &answer) {
		return "", ""
	}
	if cause, detail := tlsfile.Diagnose(err); cause != "" {
		if detail != "" {
			detail = ": " + detail
		}
		return "PostgreSQL " + cause.Sentence() + detail,
			"compare sslmode, sslrootcert, sslcert and sslkey in " + setting + " with the server's certificate and pg_hba.conf"
	}
	var length *pgproto3.ExceededMaxBodyLenErr
	text := err.Error()
	switch {
	case strings.Contains(text, "server refused TLS connection"): // pgconn has no type for it
		return "the server of " + setting + " does not offer TLS, but sslmode requires it",
			"turn on ssl in PostgreSQL, or set sslmode=prefer; if another program listens there, correct the port"
	case errors.As(err, &length):
		return "the server of " + setting + " does not speak PostgreSQL's protocol",
			"correct the port in " + setting + ": another program listens there"
	case neterror.IsClosed(err):
		return "the server of " + setting + " closes the connection without answering as PostgreSQL does",
			"if another program listens there, correct the port in " + setting + "; otherwise see PostgreSQL's log"
	case errors.Is(err, context.DeadlineExceeded) && (strings.Contains(text, "failed to receive message") || strings.Contains(text, "tls error")):
		return "the server of " + setting + " accepts the connection but does not answer",
			"if another program listens there, correct the port in " + setting + "; otherwise check whether PostgreSQL or the pooler in front of it hangs"
	}
	return "", ""
}
