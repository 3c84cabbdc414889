// Package postgres sets up connections to PostgreSQL, and names what is wrong at the other end of
// one, for the two programs that have some.
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

// Diagnose returns what is wrong with the server that a connection attempt of pgx reached,
// and what to do about it; setting is the key that has its URL. Both are empty where no
// server was reached, or where PostgreSQL itself answered: it says what it misses.
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
		return "the server of " + setting + " offers no TLS, and sslmode requires it",
			"turn ssl on at PostgreSQL, or write sslmode=prefer; correct the port if another program listens there"
	case errors.As(err, &length):
		return "the server of " + setting + " does not speak PostgreSQL's protocol",
			"correct the port in " + setting + ": another program listens there"
	case neterror.IsClosed(err):
		return "the server of " + setting + " closes the connection instead of answering as PostgreSQL does",
			"correct the port in " + setting + " if another program listens there; else see PostgreSQL's log"
	case errors.Is(err, context.DeadlineExceeded) && (strings.Contains(text, "failed to receive message") || strings.Contains(text, "tls error")):
		return "the server of " + setting + " accepts the connection but does not answer",
			"correct the port in " + setting + " if another program listens there; else PostgreSQL or a pooler before it is stuck"
	}
	return "", ""
}
