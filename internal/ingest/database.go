package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/endpoint"
)

// database is the connections of all writers, and what is wrong with them.
type database struct {
	pool *pgxpool.Pool
	log  zerolog.Logger

	mu sync.Mutex
	// wrong is what keeps rows from a table, by its name, or from all of them
	// ("", until the tables are found).
	wrong map[string]wrong
	// refused is why single rows were given back, by table.
	refused map[string]wrong
}

// wrong is a problem, and when it was met last.
type wrong struct {
	endpoint.Problem
	at time.Time
}

// wrongFor is longer than one attempt, and longer than a row that was given back waits
// for the next. That may be another process's, and then nothing here would tell that it
// went well.
const wrongFor = 15 * time.Minute

// connConfig reads the database's address. The error holds no password.
func connConfig(d config.Database) (*pgxpool.Config, error) {
	conf, err := pgxpool.ParseConfig(d.URL.Reveal(d.Password))
	if err != nil {
		// pgx's own text quotes the URL, redacted only where it parses.
		var parse *pgconn.ParseConfigError
		if errors.As(err, &parse) && parse.Unwrap() != nil {
			err = parse.Unwrap()
		}
		return nil, fmt.Errorf("is not understood: %w", err)
	}
	if _, set := conf.ConnConfig.RuntimeParams["application_name"]; !set {
		conf.ConnConfig.RuntimeParams["application_name"] = "ingest"
	}
	// What is written is UTF-8. Left to itself a database of another encoding takes
	// it for its own, and every letter beyond ASCII for several.
	conf.ConnConfig.RuntimeParams["client_encoding"] = "UTF8"
	if conf.ConnConfig.ConnectTimeout == 0 {
		conf.ConnConfig.ConnectTimeout = 10 * time.Second
	}
	return conf, nil
}

// openDatabase makes no connection yet. Every connection gets the stages of all
// tables; connections is how many batches are written at once.
func openDatabase(conf *pgxpool.Config, tables []*table, connections int, log zerolog.Logger) (*database, error) {
	conf = conf.Copy()
	conf.MaxConns = int32(connections)
	conf.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		// A merge must see what was stored while it waited for a lock, whatever
		// the default of the database or of the role is.
		if err := conn.PgConn().Exec(ctx, "SET default_transaction_isolation = 'read committed'").Close(); err != nil {
			return fmt.Errorf("set the isolation of transactions: %w", err)
		}
		for _, t := range tables {
			if err := conn.PgConn().Exec(ctx, t.stage).Close(); err != nil {
				return fmt.Errorf("make the stage of %s: %w", t.name, err)
			}
		}
		return nil
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), conf)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	return &database{pool: pool, log: log, refused: map[string]wrong{}, wrong: map[string]wrong{
		"": {Problem: endpoint.Problem{Component: "database", Problem: "not connected yet", Since: time.Now()}},
	}}, nil
}

// closePatience is how long close waits.
const closePatience = 2 * time.Second

// close waits for the connections to end, but not for a server that has stopped to
// answer: pgx would give it 15 s to take back the statements that were cut off. That
// goes on behind.
func (d *database) close() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		d.pool.Close()
	}()
	select {
	case <-closed:
	case <-time.After(closePatience):
	}
}

// exchange writes rows in one transaction and tells how many were new. It is one
// round trip: the query, the rows and their end go out without waiting for an
// answer, and the answer to all of them is one.
func (d *database) exchange(ctx context.Context, t *table, rows []row) (added int64, err error) {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return 0, &connectError{err}
	}
	defer conn.Release()
	tag, err := conn.Conn().PgConn().CopyFrom(ctx, &copyReader{rows: rows}, t.load)
	return tag.RowsAffected(), err
}

// connectError: there is no connection to be had.
type connectError struct{ error }

func (e *connectError) Unwrap() error { return e.error }

// works notes that the database takes rows of a table; once per change it is logged.
// What is wrong with another table, a missing grant for instance, stays wrong.
func (d *database) works(table string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, was := d.wrong[table]
	if !was {
		return
	}
	delete(d.wrong, table)
	if !d.says(p.Problem.Problem) {
		d.log.Info().Dur("after", time.Since(p.Since)).Msg("the database takes what it gets")
	}
}

// fails notes what keeps it from that.
func (d *database) fails(table string, err error) {
	p := endpoint.Problem{Component: "database", Problem: problemText(err), Advice: advice(err), Since: time.Now()}
	d.mu.Lock()
	defer d.mu.Unlock()
	old, was := d.wrong[table]
	if was {
		p.Since = old.Since
	}
	known := d.says(p.Problem)
	d.wrong[table] = wrong{p, time.Now()}
	if !known {
		d.log.Error().Str("problem", p.Problem).Str("advice", p.Advice).Msg("nothing is stored; what is under way waits")
	}
}

// says: what is wrong with some table is this. d.mu is held.
func (d *database) says(problem string) bool {
	for _, p := range d.wrong {
		if p.Problem.Problem == problem {
			return true
		}
	}
	return false
}

// refuses notes why a row was given back: it keeps no other from its table, so it is no
// reason not to be ready.
func (d *database) refuses(table string, err error) {
	p := endpoint.Problem{
		Component: "database", Problem: "rows of " + table + " fail and are given back: " + problemText(err),
		Advice: advice(err), Since: time.Now(),
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	old, was := d.refused[table]
	if was {
		p.Since = old.Since
	}
	d.refused[table] = wrong{p, time.Now()}
	if !was || old.Problem.Problem != p.Problem {
		d.log.Warn().Str("table", table).Str("problem", problemText(err)).Msg("a row fails and is given back, to be tried later")
	}
}

// problems are all that is wrong, each once, the oldest first.
func (d *database) problems() []endpoint.Problem {
	d.mu.Lock()
	defer d.mu.Unlock()
	return list(d.wrong)
}

// warnings are why rows were given back lately.
func (d *database) warnings() []endpoint.Problem {
	d.mu.Lock()
	defer d.mu.Unlock()
	return list(d.refused)
}

// list is each problem once, the oldest first. It forgets what has not been met for long.
func list(of map[string]wrong) []endpoint.Problem {
	var all []endpoint.Problem
	for table, p := range of {
		if table != "" && time.Since(p.at) > wrongFor {
			delete(of, table)
			continue
		}
		same := slices.IndexFunc(all, func(q endpoint.Problem) bool { return q.Problem == p.Problem.Problem })
		switch {
		case same < 0:
			all = append(all, p.Problem)
		case p.Since.Before(all[same].Since):
			all[same] = p.Problem
		}
	}
	slices.SortFunc(all, func(p, q endpoint.Problem) int { return p.Since.Compare(q.Since) })
	return all
}

// problemText is err without what changes from attempt to attempt.
func problemText(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return fmt.Sprintf("PostgreSQL: %s (SQLSTATE %s)", pg.Message, pg.Code)
	}
	if connecting(err) {
		return "PostgreSQL cannot be reached: " + rootOf(err).Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "PostgreSQL does not answer within database.timeout: a lock, or a disk that stands still"
	}
	return "PostgreSQL: " + rootOf(err).Error()
}

// rootOf is the innermost of a chain of errors: "connection refused" without the
// port that the kernel chose this time.
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
