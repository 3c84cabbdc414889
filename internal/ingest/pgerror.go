package ingest

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"mqtt-nats-bridge/internal/postgres"
)

// class says what a failed exchange with the database calls for. It is decided here
// and nowhere else.
type class int

const (
	// retry: the database is unreachable, full, or busy with itself. Nothing is wrong
	// with the batch; the same one is tried until it is stored.
	retry class = iota
	// poison: a row is such that the database will never take it.
	poison
	// suspect: it may be one row or the database. After a few attempts the
	// batch is halved; the message of a row that fails alone is nak'ed for later.
	suspect
	// probe: it took too long, because of a row or because of a lock or a slow disk.
	// Where the statement fails without rows too it is retry, else suspect.
	probe
	// stop: as probe, but only an operator can fix the cause. The advice says how. A
	// trigger can raise anything, so this may be a single row too.
	stop
)

// errMissing means that rows of a batch are in the table neither as added nor as known
// before, although the statement succeeded: a trigger or a rule dropped them, or the
// statement ended early (TimescaleDB before 2.17.3 ends INSERT … SELECT … ON CONFLICT DO
// NOTHING on a compressed chunk at the first conflict). Alone, a row is not affected by the
// latter.
var errMissing = errors.New("the statement succeeded, but rows are missing from the table")

// classify goes by SQLSTATE (PostgreSQL, appendix A).
func classify(err error) class {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		if errors.Is(err, context.DeadlineExceeded) && !connecting(err) {
			return probe
		}
		if errors.Is(err, errMissing) {
			return suspect
		}
		if errors.Is(err, ErrNotMigrated) {
			return stop
		}
		return retry // no connection, or it broke
	}
	if len(pg.Code) != 5 {
		return suspect
	}
	switch pg.Code {
	case "53200": // out of memory: for one huge row, too
		return suspect
	case "57014": // statement_timeout
		return probe
	}
	if byPolicy(pg) {
		return suspect // a policy may take the rows of one tenant and refuse those of another
	}
	if pg.Code == "23514" && pg.ConstraintName == "" {
		// A partition is missing: for this row alone, whose time is far away, or
		// because today's has not been created.
		return suspect
	}
	if foreignColumn(pg) {
		return retry // not the rows' fault: none would be taken
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
		"58": // the disk does not read or write
		return retry
	case "0A", "28", "2B", "3D", "3F", "42":
		return stop
	}
	return suspect
}

// foreignColumn reports whether the column is unknown to ingest, which so never fills it,
// and is NOT NULL without a default. Of its own columns ingest leaves cn and status empty
// where a message has none, so a constraint on those depends on the row.
func foreignColumn(pg *pgconn.PgError) bool {
	ours := pg.ColumnName == "cn" || pg.ColumnName == "status" && pg.TableName == "device_commands"
	return pg.Code == "23502" && !ours
}

// byPolicy reports that row level security refused a row. It shares its SQLSTATE with a
// missing grant; only the function that raises it differs (PostgreSQL, execMain.c), since
// the text depends on lc_messages.
func byPolicy(pg *pgconn.PgError) bool {
	return pg.Code == "42501" && pg.Routine == "ExecWithCheckOptions"
}

// readOnly reports that this connection leads to a server that takes no writes: a standby, or
// a primary that was demoted. A new connection may lead to another one.
func readOnly(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "25006"
}

// staging reports whether an error's sentence names one of the temporary tables, which are there for
// each connection and for nobody else.
func staging(text string) bool {
	return slices.ContainsFunc([]string{"ingest_telemetry", "ingest_state", "ingest_commands"}, func(name string) bool {
		return strings.Contains(text, name)
	})
}

// databaseURL is the key that has the database's URL.
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

// Advice implements advice.Adviser; empty where waiting is all.
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
			return "make sure that PostgreSQL runs at the host and port of database.url; ingest goes on trying"
		}
		return ""
	}
	switch {
	case strings.HasPrefix(pg.Code, "28"):
		return "make sure that PostgreSQL knows the user of database.url with database.password, and lets it in (pg_hba.conf)"
	case pg.Code == "3D000":
		return "create the database, or name another in database.url"
	case (pg.Code == "42P01" || pg.Code == "42P07") && staging(pg.Message):
		return "database.url leads through a pooler that gives each transaction another session: set its pool_mode to session, or name PostgreSQL itself"
	case pg.Code == "42P01", pg.Code == "42703":
		return "the tables are not those of this version: run ingest migrate"
	case pg.Code == "42501" && errors.As(err, &migration):
		return "run ingest migrate as a user with permission to create tables, and set database.migrate: false"
	case byPolicy(pg):
		return "add a policy that lets the user of database.url SELECT, INSERT and UPDATE these rows (CREATE POLICY … ON the table), or give it BYPASSRLS"
	case pg.Code == "55P03":
		return "end the transaction that locks the table (pg_locks, pg_stat_activity); ingest goes on by itself"
	case pg.Code == "42501":
		return "grant the user of database.url SELECT, INSERT and UPDATE on telemetry, device_state and device_commands, and TEMPORARY on the database"
	case foreignColumn(pg):
		return "give the column " + pg.ColumnName + " of " + pg.TableName + " a default, or let it be NULL: ingest does not fill it"
	case pg.Code == "23514" && pg.ConstraintName == "":
		return "create the partition, or a default one; the rows are tried again"
	case pg.Code == "42P10":
		return "a table lacks its primary key: compare it with ingest migrate on an empty database"
	case pg.Code == "53100":
		return "the database's disk is full: free space; ingest goes on by itself"
	case pg.Code == "53300":
		return "raise max_connections, or lower telemetry.workers"
	case strings.HasPrefix(pg.Code, "25"):
		return "the server is read-only, a standby or a demoted primary: name the primary, or all servers and target_session_attrs=read-write; each attempt connects anew"
	}
	return ""
}
