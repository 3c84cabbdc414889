package registry

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/bridge/certificates"
	"mqtt-nats-bridge/internal/health"
	"mqtt-nats-bridge/internal/postgres"
	"mqtt-nats-bridge/internal/sleep"
	"mqtt-nats-bridge/internal/tlsfile"
)

// Table is where the certificates are, and the channel that changes of it are
// notified on.
const Table = "device_certificates"

// PostgresOptions say where the table is. All but Current are required.
type PostgresOptions struct {
	// URL is postgres://…, or key=value pairs; TLS as it says (sslmode).
	URL string
	// Current, where it is not nil, returns the URL for the next connect.
	Current func() (string, error)
	// Refresh is how often the table is read again.
	Refresh      time.Duration
	Certificates *certificates.Live // to fill
	Log          zerolog.Logger
}

// Postgres is a registry in a table of PostgreSQL:
//
//	device_certificates(tenant_id, device_id, status, not_after)
//
// It is read whole at the start and every Refresh. Where the database notifies on
// the channel device_certificates, with tenant_id/device_id as the payload, that
// one certificate is read immediately; with an empty payload all are.
type Postgres struct {
	o      PostgresOptions
	loaded chan struct{}
	once   sync.Once

	followed *health.Condition
	loadedAt atomic.Int64 // ns since the epoch; 0: never
}

const (
	// dialTimeout bounds one attempt to connect, queryTimeout one reading of
	// the whole table.
	dialTimeout  = 10 * time.Second
	queryTimeout = 2 * time.Minute
	// settle is how long notifications are gathered, so that many changes in
	// one go are one query.
	settle = 20 * time.Millisecond
	// maxNamed is how many certificates are read one by one; beyond it all are.
	maxNamed = 1000
)

// connConfig reads a database URL and the files that it names, as they are now.
func connConfig(url string) (*pgx.ConnConfig, error) {
	conf, err := postgres.Config(url, "mqtt-nats-bridge")
	if err != nil {
		return nil, err
	}
	// No statement is prepared: a pooler gives the next transaction another session.
	conf.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	return conf.ConnConfig, nil
}

// NewPostgres returns a registry that is not read yet; see Run. The error is that
// of the URL.
func NewPostgres(o PostgresOptions) (*Postgres, error) {
	if _, err := connConfig(o.URL); err != nil {
		return nil, err
	}
	return &Postgres{o: o, loaded: make(chan struct{}), followed: newFollowed(o.Log, o.Certificates)}, nil
}

// CertificateExpiry is when the client certificate for the database expires, read as it is
// now; zero without one.
func (p *Postgres) CertificateExpiry() (time.Time, error) {
	c, err := p.config()
	if err != nil {
		return time.Time{}, err
	}
	return tlsfile.ConfigExpiry(c.TLSConfig)
}

// config reads the URL and the files that it names, as they are now.
func (p *Postgres) config() (*pgx.ConnConfig, error) {
	url := p.o.URL
	if p.o.Current != nil {
		var err error
		if url, err = p.o.Current(); err != nil {
			return nil, err
		}
	}
	c, err := connConfig(url)
	if err != nil {
		return nil, fmt.Errorf("identity.registry.database_url: %w", err)
	}
	return c, nil
}

// Loaded implements [Source].
func (p *Postgres) Loaded() <-chan struct{} { return p.loaded }

// State implements [Source].
func (p *Postgres) State() State {
	s := newState("postgres", p.lastLoaded(), p.followed)
	s.Entries = p.o.Certificates.Table().Len()
	return s
}

// Run implements [Source].
func (p *Postgres) Run(ctx context.Context) {
	for pause := 100 * time.Millisecond; ctx.Err() == nil; {
		began := time.Now()
		err := p.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		p.stale(err)
		if time.Since(began) > time.Minute {
			pause = 100 * time.Millisecond
		}
		sleep.For(ctx, pause)
		pause = min(2*pause, 5*time.Second)
	}
}

// follow reads the table over one connection until that fails.
func (p *Postgres) follow(ctx context.Context) error {
	config, err := p.config()
	if err != nil {
		return err
	}
	dial, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	db, err := pgx.ConnectConfig(dial, config)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = db.Close(closing) // there is nothing left to say on it
	}()
	// Before the first reading, so that no change falls between the two.
	if _, err := db.Exec(dial, "LISTEN "+Table); err != nil {
		return fmt.Errorf("listen for changes: %w", err)
	}
	for {
		// A link that is lost silently would block the reading for its whole timeout,
		// and the last known state would pass for fresh as long.
		if err := p.ask(ctx, db); err != nil {
			return err
		}
		if err := p.load(ctx, db); err != nil {
			return err
		}
		due := time.Now().Add(p.o.Refresh)
		for {
			names, whole, err := p.await(ctx, db, due)
			if err != nil {
				return fmt.Errorf("wait for changes: %w", err)
			}
			if whole {
				break
			}
			if err := p.read(ctx, db, names); err != nil {
				return err
			}
		}
	}
}

// ask has the database say something.
func (p *Postgres) ask(ctx context.Context, db *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := db.Ping(ctx); err != nil {
		return fmt.Errorf("ask the database: %w", err)
	}
	return nil
}

// await waits for changes. whole: everything is to be read, since it is due or a
// notification says so.
func (p *Postgres) await(ctx context.Context, db *pgx.Conn, due time.Time) (names []string, whole bool, err error) {
	until := due
	for {
		waiting, cancel := context.WithDeadline(ctx, until)
		n, err := db.WaitForNotification(waiting)
		over := waiting.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case err != nil && over && !db.IsClosed():
			return names, len(names) == 0, nil
		case err != nil:
			return nil, false, err
		case n.Channel != Table:
			continue
		case !strings.Contains(n.Payload, "/") || len(names) >= maxNamed:
			return nil, true, nil
		}
		if len(names) == 0 {
			until = time.Now().Add(settle)
		}
		names = append(names, n.Payload)
	}
}

const columns = `SELECT tenant_id::text, device_id::text, status::text, extract(epoch FROM not_after)::float8 FROM ` + Table

// load reads and applies the whole table. Rows without a name are skipped: a view may have some.
func (p *Postgres) load(ctx context.Context, db *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	table := certificates.NewTable()
	if err := p.query(ctx, db, func(r row) { table.Put(r.tenant, r.device, r.status, r.end()) },
		columns+` WHERE tenant_id IS NOT NULL AND device_id IS NOT NULL`); err != nil {
		return err
	}
	table.Compact()
	p.o.Certificates.Use(table)
	p.fresh()
	return nil
}

// read reads single certificates into the present table. Certificates that no longer exist are
// removed.
func (p *Postgres) read(ctx context.Context, db *pgx.Conn, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	gone := map[[2]string]bool{}
	tenants, devices := make([]string, len(names)), make([]string, len(names))
	for i, name := range names {
		tenants[i], devices[i], _ = strings.Cut(name, "/")
		gone[[2]string{tenants[i], devices[i]}] = true
	}
	table := p.o.Certificates.Table()
	err := p.query(ctx, db, func(r row) {
		delete(gone, [2]string{r.tenant, r.device})
		table.Put(r.tenant, r.device, r.status, r.end())
	}, columns+` WHERE (tenant_id::text, device_id::text) IN (SELECT * FROM unnest($1::text[], $2::text[]))`, tenants, devices)
	if err != nil {
		return err
	}
	for name := range gone {
		table.Delete(name[0], name[1])
	}
	return nil
}

// row is one certificate of the table.
type row struct {
	tenant, device, status string
	notAfter               *float64 // s since the epoch; nil: no end
}

// end is the end of validity in ms since the epoch, 0 where there is none.
func (r row) end() int64 {
	if r.notAfter == nil || math.IsInf(*r.notAfter, 1) {
		return 0
	}
	const latest = 1 << 47 // ms: in the year 6429
	return int64(max(1, min(*r.notAfter*1000, latest)))
}

func (p *Postgres) query(ctx context.Context, db *pgx.Conn, take func(row), sql string, args ...any) error {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("read %s: %w", Table, err)
	}
	var r row
	var status *string
	_, err = pgx.ForEachRow(rows, []any{&r.tenant, &r.device, &status, &r.notAfter}, func() error {
		r.status = "without a status"
		if status != nil {
			r.status = *status
		}
		take(r)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", Table, err)
	}
	return nil
}

func (p *Postgres) fresh() {
	p.loadedAt.Store(time.Now().UnixNano())
	p.followed.Clear()
	p.once.Do(func() { close(p.loaded) })
}

func (p *Postgres) stale(err error) {
	notFollowed(p.followed, p.lastLoaded(), &databaseError{err})
}

// lastLoaded is when the table was last read whole; zero: never.
func (p *Postgres) lastLoaded() time.Time {
	if ns := p.loadedAt.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

// databaseError is an error of the database, or of the connection to it.
type databaseError struct{ error }

// Error is what is wrong with the server that was reached, or the error's text.
func (e *databaseError) Error() string {
	if named, _ := postgres.Diagnose(e.error, databaseURL); named != "" {
		return named
	}
	return e.error.Error()
}

func (e *databaseError) Unwrap() error { return e.error }

// databaseURL is the key that has the database's URL.
const databaseURL = "identity.registry.database_url"

// Advice implements advice.Adviser; empty: the database says so itself, or waiting is all.
func (e *databaseError) Advice() string {
	err := e.error
	var server *pgconn.PgError
	var connect *pgconn.ConnectError
	switch {
	case errors.As(err, &server):
		switch server.Code {
		case "42P01":
			return "create the table, see docs/registry.md"
		case "42703":
			return "the table needs the columns tenant_id, device_id, status and not_after, see docs/registry.md"
		case "42501":
			return "GRANT SELECT ON " + Table + " to the user of identity.registry.database_url"
		case "28P01", "28000":
			return "see user and password of identity.registry.database_url, and pg_hba.conf"
		case "3D000":
			return "see the database's name in identity.registry.database_url"
		}
	case errors.As(err, &connect):
		if _, advice := postgres.Diagnose(err, databaseURL); advice != "" {
			return advice
		}
		return "make sure that PostgreSQL runs at the host and port of identity.registry.database_url"
	}
	return ""
}
