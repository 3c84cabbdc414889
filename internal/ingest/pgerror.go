package ingest

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"mqtt-nats-bridge/internal/postgres"
)

// class determines the reaction to a failed exchange with the database. Only classify decides it.
type class int

const (
	// retry: the database is unreachable, full or busy. The batch is valid and is retried until it
	// is stored.
	retry class = iota
	// poison: the database will never accept a row of the batch.
	poison
	// suspect: the cause is one row or the database. After a few attempts the batch is halved. The
	// message of a row that fails alone is nak'ed.
	suspect
	// probe: the exchange timed out because of a row, a lock or a slow disk. If the statement also
	// fails without rows, it is retry, otherwise suspect.
	probe
	// stop: like probe, but only an operator can fix the cause; the advice explains how. A trigger
	// can raise any error, so the cause can also be a single row.
	stop
)

// errMissing means that rows of a batch are not in the table although the statement succeeded.
// Either a trigger or a rule dropped them, or the statement ended early: TimescaleDB before 2.17.3
// ends INSERT … SELECT … ON CONFLICT DO NOTHING on a compressed chunk at the first conflict. The
// latter does not affect a row that is written alone.
var errMissing = errors.New("the statement succeeded, but rows are missing from the table")

// classify determines the class from the SQLSTATE (PostgreSQL, appendix A).
func classify(err error) class {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		if errors.Is(err, context.DeadlineExceeded) && !connecting(err) {
			return probe
		}
		if errors.Is(err, errMissing) {
			return suspect
		}
		if errors.Is(err, ErrNotMigrated) {
			return stop
		}
		return retry // not connected, or the connection failed
	}
	if len(pg.Code) != 5 {
		return suspect
	}
	switch pg.Code {
	case "53200": // out of memory, possibly because of one huge row
		return suspect
	case "57014": // statement_timeout
		return probe
	}
	if byPolicy(pg) {
		return suspect // a policy may accept the rows of one tenant and refuse those of another
	}
	if pg.Code == "23514" && pg.ConstraintName == "" {
		// A partition is missing: either only for this row, which has an unusual time, or today's
		// partition has not been created.
		return suspect
	}
	if foreignColumn(pg) {
		return retry // not caused by the rows: none would be accepted
	}
	switch pg.Code[:2] {
	case "22", // data exception
		"23", // integrity constraint
		"54": // program limit: index row too large, nested too deep
		return poison
	case "08", // connection
		"25",       // read-only: a standby
		"40",       // deadlock, serialization
		"53", "55", // full; locked
		"57", // shutting down, starting up
		"58": // I/O error
		return retry
	case "0A", "28", "2B", "3D", "3F", "42":
		return stop
	}
	return suspect
}

// foreignColumn reports whether a NOT NULL column without a default is not one of ingest's, which
// therefore never fills it. Of its own columns, ingest leaves cn and status NULL if a message has
// none, so a violation there depends on the row.
func foreignColumn(pg *pgconn.PgError) bool {
	ours := pg.ColumnName == "cn" || pg.ColumnName == "status" && pg.TableName == "device_commands"
	return pg.Code == "23502" && !ours
}

// byPolicy reports whether row-level security refused a row. The SQLSTATE is the same as for a
// missing grant, and the text depends on lc_messages. Only the function that raises the error
// distinguishes them (PostgreSQL, execMain.c).
func byPolicy(pg *pgconn.PgError) bool {
	return pg.Code == "42501" && pg.Routine == "ExecWithCheckOptions"
}

// readOnly reports whether the server of this connection is read-only: a standby or a demoted
// primary. A new connection may reach another server.
func readOnly(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "25006"
}

// staging reports whether an error message names one of the temporary tables, which exist only
// within one session.
func staging(text string) bool {
	return slices.ContainsFunc([]string{"ingest_telemetry", "ingest_state", "ingest_commands"}, func(name string) bool {
		return strings.Contains(text, name)
	})
}

// databaseURL is the configuration key of the database URL.
const databaseURL = "database.url"

func connecting(err error) bool {
	var driver *pgconn.ConnectError
	var pool *connectError
	return errors.As(err, &driver) || errors.As(err, &pool)
}

// databaseError is an error of the database, or of the connection to it.
type databaseError struct{ error }

// Unwrap implements errors.Unwrap.
func (e *databaseError) Unwrap() error { return e.error }

// Advice implements advice.Adviser. It is empty if only waiting helps.
func (e *databaseError) Advice() string {
	err := e.error
	if errors.Is(err, ErrNotMigrated) {
		return "run ingest migrate as a user with permission to create tables, or set database.migrate: true"
	}
	if errors.Is(err, errMissing) {
		return "look for a trigger or rule on the table that drops rows; on TimescaleDB 2.17.2 or older, upgrade"
	}
	var pg *pgconn.PgError
	var migration *migrateError
	if !errors.As(err, &pg) {
		if _, advice := postgres.Diagnose(err, databaseURL); advice != "" {
			return advice
		}
		if connecting(err) {
			return "make sure that PostgreSQL is running at the host and port of database.url; ingest keeps retrying"
		}
		return ""
	}
	switch {
	case strings.HasPrefix(pg.Code, "28"):
		return "check user and password (database.url, database.password), and pg_hba.conf"
	case pg.Code == "3D000":
		return "create the database, or set another one in database.url"
	case (pg.Code == "42P01" || pg.Code == "42P07") && staging(pg.Message):
		return "database.url points to a pooler that uses another session for each transaction: set its pool_mode to session, or connect to PostgreSQL directly"
	case pg.Code == "42P01", pg.Code == "42703":
		return "the tables are not those of this version: run ingest migrate"
	case pg.Code == "42501" && errors.As(err, &migration):
		return "run ingest migrate as a user with permission to create tables, and set database.migrate: false"
	case byPolicy(pg):
		return "add a policy that lets the user of database.url SELECT, INSERT and UPDATE these rows (CREATE POLICY … ON the table), or give it BYPASSRLS"
	case pg.Code == "55P03":
		return "end the transaction that locks the table (pg_locks, pg_stat_activity); ingest then continues"
	case pg.Code == "42501":
		return "grant the user of database.url SELECT, INSERT and UPDATE on telemetry, device_state and device_commands, and TEMPORARY on the database"
	case foreignColumn(pg):
		return "give the column " + pg.ColumnName + " of " + pg.TableName + " a default, or allow NULL: ingest does not fill it"
	case pg.Code == "23514" && pg.ConstraintName == "":
		return "create the partition, or a default one; the rows are retried"
	case pg.Code == "42P10":
		return "a table lacks its primary key: compare it with ingest migrate on an empty database"
	case pg.Code == "53100":
		return "the disk of the database is full: free space; ingest then continues"
	case pg.Code == "53300":
		return "raise max_connections, or lower telemetry.workers"
	case strings.HasPrefix(pg.Code, "25"):
		return "the server is read-only, a standby or a demoted primary: set the primary in database.url, or all servers with target_session_attrs=read-write; each attempt opens a new connection"
	}
	return ""
}
