package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/endpoint"
	"mqtt-nats-bridge/internal/health"
	"mqtt-nats-bridge/internal/postgres"
	"mqtt-nats-bridge/internal/schema"
)

// database contains the connections of all writers and their problems.
type database struct {
	pool *pgxpool.Pool
	log  zerolog.Logger

	mu sync.Mutex
	// wrong contains the problem of each table, by name. The key "" is a problem of all tables,
	// until they are found.
	wrong map[string]wrong
	// refused contains the reasons why single rows failed and their messages were nak'ed, by table.
	refused map[string]refusal
	// stored contains the tables into which this process has stored rows.
	stored map[string]bool
}

// refusal is the reason why rows fail and their messages are nak'ed.
type refusal struct {
	wrong
	// since contains the sequences of messages that were nak'ed since the last stored row, at most
	// refusedInRow.
	since map[uint64]struct{}
}

// refusedInRow is the number of different messages that a table must refuse, with none stored in
// between, to count as a table that accepts no rows. If this process has not stored any row yet,
// one refusal is enough.
const refusedInRow = 10

// wrong is a problem and the time when it last occurred.
type wrong struct {
	endpoint.Problem
	at time.Time
}

// wrongFor is the time after which a problem is forgotten. It is longer than an attempt, and longer
// than the redelivery delay of a nak'ed message. If another process makes the next attempt, this
// process does not see its success.
const wrongFor = 15 * time.Minute

// connConfig parses the database URL and reads the present contents of the files that it names.
func connConfig(d config.Database) (*pgxpool.Config, error) {
	if d.PasswordFile != "" {
		var err error
		if d.Password, err = schema.ReadSecret(d.PasswordFile); err != nil {
			return nil, fmt.Errorf("password_file: %w", err)
		}
	}
	conf, err := postgres.Config(d.URL.Reveal(d.Password), "ingest")
	if err != nil {
		return nil, err
	}
	conf.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		now, err := connConfig(d)
		if err != nil {
			return fmt.Errorf("read database.url's credentials: %w", err)
		}
		c.Password, c.TLSConfig, c.Fallbacks = now.ConnConfig.Password, now.ConnConfig.TLSConfig, now.ConnConfig.Fallbacks
		return nil
	}
	return conf, nil
}

// openDatabase creates the pool without connecting. Each connection creates the stages of all
// tables. connections is the number of batches written concurrently.
func openDatabase(conf *pgxpool.Config, tables []*table, timeout time.Duration, connections int, log zerolog.Logger) (*database, error) {
	conf = conf.Copy()
	conf.MaxConns = int32(connections)
	session := fmt.Sprintf("SET default_transaction_isolation = 'read committed'; SET lock_timeout = %d", (timeout / 2).Milliseconds())
	conf.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		// A merge must see rows that were stored while it waited for a lock, so the isolation level
		// does not depend on the defaults of database and role. lock_timeout identifies a lock as
		// the cause; the timeout of an exchange could have any cause.
		if err := conn.PgConn().Exec(ctx, session).Close(); err != nil {
			return fmt.Errorf("set isolation and lock_timeout: %w", err)
		}
		for _, t := range tables {
			if err := conn.PgConn().Exec(ctx, t.stage).Close(); err != nil {
				return fmt.Errorf("create the stage of %s: %w", t.name, err)
			}
		}
		return nil
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), conf)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	return &database{pool: pool, log: log, refused: map[string]refusal{}, stored: map[string]bool{}, wrong: map[string]wrong{
		"": {Problem: endpoint.Problem{Component: "database", Problem: "not connected yet", Since: time.Now()}},
	}}, nil
}

// exchange writes rows in one transaction and returns the number of new rows. It is one round trip:
// the query, the rows and their end are sent without waiting for an answer. If not all rows were
// new, it verifies that the others are in the table: the success of the statement does not prove
// it.
func (d *database) exchange(ctx context.Context, t *table, rows []row) (added int64, err error) {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return 0, &connectError{err}
	}
	defer conn.Release()
	tag, err := conn.Conn().PgConn().CopyFrom(ctx, copyData(rows), t.load)
	if err == nil && tag.RowsAffected() < tuples(rows) {
		err = d.verify(ctx, conn, t, rows)
	}
	if readOnly(err) {
		d.pool.Reset() // the other connections use the same server
		_ = conn.Conn().Close(ctx)
	}
	return tag.RowsAffected(), err
}

// verify returns errMissing if a row is not in the table.
func (d *database) verify(ctx context.Context, conn *pgxpool.Conn, t *table, rows []row) error {
	fill, _, _ := strings.Cut(t.load, ";")
	tag, err := conn.Conn().PgConn().CopyFrom(ctx, copyData(rows), fill+";"+t.missing)
	if err == nil && tag.RowsAffected() > 0 {
		err = errMissing
	}
	return err
}

// connectError means that no connection could be established.
type connectError struct{ error }

func (e *connectError) Unwrap() error { return e.error }

// stores records that rows of a table were stored.
func (d *database) stores(table string) {
	d.mu.Lock()
	d.stored[table] = true
	clear(d.refused[table].since)
	d.mu.Unlock()
	d.works(table)
}

// works records that the database accepts rows of a table, and logs the change. Problems of other
// tables, such as a missing grant, remain.
func (d *database) works(table string) {
	d.mu.Lock()
	p, was := d.wrong[table]
	delete(d.wrong, table)
	resumed := was && !d.hasProblem(p.Problem.Problem)
	d.mu.Unlock() // a slow log must not block /readyz
	if resumed {
		d.log.Info().Dur("after", time.Since(p.Since)).Msg("database writes resumed")
	}
}

// fails records the problem that prevents writes to a table.
func (d *database) fails(table string, err error) {
	err = &databaseError{err}
	p := endpoint.Problem{Component: "database", Problem: err.Error(), Advice: advice.For(err), Since: time.Now()}
	d.mu.Lock()
	old, was := d.wrong[table]
	if was {
		p.Since = old.Since
	}
	known := d.hasProblem(p.Problem)
	d.wrong[table] = wrong{p, time.Now()}
	d.mu.Unlock()
	if !known {
		d.log.Error().Str("component", "database").Str("problem", p.Problem).Func(advice.Field(p.Advice)).Msg("database unavailable, pausing ingest")
	}
}

// hasProblem reports whether some table has this problem. The caller holds d.mu.
func (d *database) hasProblem(problem string) bool {
	for _, p := range d.wrong {
		if p.Problem.Problem == problem {
			return true
		}
	}
	return false
}

// refuses records why the row of a message failed and the message was nak'ed. Other rows are not
// affected, so ingest stays ready, unless the table accepts no rows at all.
func (d *database) refuses(table string, sequence uint64, err error) {
	err = &databaseError{err}
	p := endpoint.Problem{
		Component: "database", Problem: "rows of " + table + " fail and are redelivered: " + err.Error(),
		Advice: advice.For(err), Since: time.Now(),
	}
	d.mu.Lock()
	old, was := d.refused[table]
	next := refusal{wrong{p, time.Now()}, old.since}
	if was {
		next.Since = old.Since
	} else {
		next.since = map[uint64]struct{}{}
	}
	if len(next.since) < refusedInRow {
		next.since[sequence] = struct{}{}
	}
	d.refused[table] = next
	d.mu.Unlock()
	if !was || old.Problem.Problem != p.Problem {
		d.log.Warn().Str("component", "database").Str("table", table).AnErr("problem", err).
			Func(advice.Field(p.Advice)).Msg("row failed, trying it again later")
	}
}

// problems returns all problems, each once, the oldest first.
func (d *database) problems() []endpoint.Problem {
	d.mu.Lock()
	defer d.mu.Unlock()
	// The problem that the tables were not found does not expire.
	maps.DeleteFunc(d.wrong, func(table string, p wrong) bool { return table != "" && time.Since(p.at) > wrongFor })
	all := maps.Clone(d.wrong)
	for table, r := range d.refusals() {
		if d.takesNone(table, r) {
			all["rows of "+table] = r.wrong
		}
	}
	return list(all)
}

// warnings returns the reasons why rows failed recently.
func (d *database) warnings() []endpoint.Problem {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := map[string]wrong{}
	for table, r := range d.refusals() {
		if !d.takesNone(table, r) {
			all[table] = r.wrong
		}
	}
	return list(all)
}

// takesNone reports whether a table accepts no rows at all. The caller holds d.mu.
func (d *database) takesNone(table string, r refusal) bool {
	return len(r.since) >= refusedInRow || len(r.since) > 0 && !d.stored[table]
}

// refusals returns the refusals that have not expired. The caller holds d.mu.
func (d *database) refusals() map[string]refusal {
	maps.DeleteFunc(d.refused, func(_ string, r refusal) bool { return time.Since(r.at) > wrongFor })
	return d.refused
}

// list returns each problem once, the oldest first.
func list(of map[string]wrong) []endpoint.Problem {
	var all []endpoint.Problem
	for _, p := range of {
		all = health.Merge(all, p.Problem)
	}
	slices.SortFunc(all, func(p, q endpoint.Problem) int { return p.Since.Compare(q.Since) })
	return all
}

// Error returns the error without details that change with each attempt.
func (e *databaseError) Error() string {
	err := e.error
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return fmt.Sprintf("PostgreSQL: %s (SQLSTATE %s)", pg.Message, pg.Code)
	}
	if problem, _ := postgres.Diagnose(err, databaseURL); problem != "" {
		return problem
	}
	if connecting(err) {
		return "PostgreSQL cannot be reached: " + rootOf(err).Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "PostgreSQL does not answer within database.timeout: a lock or a stalled disk"
	}
	return "PostgreSQL: " + rootOf(err).Error()
}

// rootOf returns the innermost error of a chain: "connection refused" without the local port of
// this attempt.
func rootOf(err error) error {
	for {
		switch inner := err.(type) {
		case interface{ Unwrap() error }:
			next := inner.Unwrap()
			if next == nil {
				return err
			}
			err = next
		case interface{ Unwrap() []error }:
			all := inner.Unwrap()
			if len(all) == 0 {
				return err
			}
			err = all[len(all)-1]
		default:
			return err
		}
	}
}
