package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/bridge/certificates"
	"mqtt-nats-bridge/internal/postgres"
	"mqtt-nats-bridge/internal/sleep"
	"mqtt-nats-bridge/internal/tlsfile"
)

// Table is the name of the table of certificates, and of the channel for notifications of its
// changes.
const Table = "device_certificates"

// PostgresOptions describes the database. All fields except Current are required.
type PostgresOptions struct {
	// URL is postgres://…, or key=value pairs; its sslmode selects TLS.
	URL string
	// Current returns the URL for the next connect. nil: URL.
	Current func() (string, error)
	// Refresh is the interval between readings of the whole table.
	Refresh      time.Duration
	Certificates *certificates.Live // to fill
	Log          zerolog.Logger
}

// Postgres is a registry in a PostgreSQL table:
//
//	device_certificates(tenant_id, device_id, status, not_after)
//
// The whole table is read at start and every Refresh. A notification on the channel
// device_certificates triggers an immediate reading: of one certificate if the payload is
// tenant_id/device_id, of all if it is empty.
type Postgres struct {
	*follower
	o PostgresOptions
}

const (
	// answerTimeout bounds LISTEN and a ping. queryTimeout bounds one reading of the whole table.
	answerTimeout = 10 * time.Second
	queryTimeout  = 2 * time.Minute
	// settle is the time for which notifications are collected, so that a burst of changes needs
	// one query.
	settle = 20 * time.Millisecond
	// maxNamed is the maximum number of certificates to read individually. Beyond it the whole
	// table is read.
	maxNamed = 1000
)

// connConfig parses a database URL and reads the current contents of the files that it names.
func connConfig(url string) (*pgx.ConnConfig, error) {
	conf, err := postgres.Config(url, "mqtt-nats-bridge")
	if err != nil {
		return nil, err
	}
	// Statements are not prepared: behind a pooler, the next transaction may use another session.
	conf.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	return conf.ConnConfig, nil
}

// NewPostgres returns a registry. Run reads it. The error is an invalid URL.
func NewPostgres(o PostgresOptions) (*Postgres, error) {
	if _, err := connConfig(o.URL); err != nil {
		return nil, err
	}
	return &Postgres{newFollower("postgres", o.Certificates, o.Log), o}, nil
}

// CertificateExpiry returns the expiry of the current client certificate for the database; zero if
// there is none.
func (p *Postgres) CertificateExpiry() (time.Time, error) {
	c, err := p.config()
	if err != nil {
		return time.Time{}, err
	}
	return tlsfile.ConfigExpiry(c.TLSConfig)
}

// config returns the current URL, parsed, with the current contents of the files that it names.
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

// Run implements [Source].
func (p *Postgres) Run(ctx context.Context) {
	for pause := 100 * time.Millisecond; ctx.Err() == nil; {
		began := time.Now()
		err := p.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		p.stale(&databaseError{err})
		if time.Since(began) > time.Minute {
			pause = 100 * time.Millisecond
		}
		sleep.For(ctx, pause)
		pause = min(2*pause, 5*time.Second)
	}
}

// follow reads the table over one connection until the connection fails.
func (p *Postgres) follow(ctx context.Context) error {
	config, err := p.config()
	if err != nil {
		return err
	}
	db, err := connect(ctx, config)
	if err != nil {
		return err
	}
	defer disconnect(ctx, db)
	for {
		// If the link is lost silently, the reading would block for its whole timeout. Until then
		// the last known state would count as up to date.
		if err := p.ping(ctx, db); err != nil {
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

// connect connects and subscribes to the notifications: before the first reading, so that no change
// is missed in between.
func connect(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	// pgx applies ConnectTimeout to each address. One bound on all of them would prevent the failover
	// from an address that does not answer.
	db, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	listening, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if _, err := db.Exec(listening, "LISTEN "+Table); err != nil {
		disconnect(ctx, db)
		return nil, fmt.Errorf("listen for changes: %w", err)
	}
	return db, nil
}

// disconnect closes a connection that has failed or is no longer needed.
func disconnect(ctx context.Context, db *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = db.Close(ctx) // nothing depends on it: the server also ends the session when the socket closes
}

// ping checks that the connection works.
func (p *Postgres) ping(ctx context.Context, db *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if err := db.Ping(ctx); err != nil {
		return fmt.Errorf("ping the database: %w", err)
	}
	return nil
}

// await waits for changes. whole means that the whole table must be read: it is due, or a
// notification requires it.
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
	p.use(table)
	p.followed.Clear()
	return nil
}

// read updates single certificates in the present table. Certificates that no longer exist are
// removed.
func (p *Postgres) read(ctx context.Context, db *pgx.Conn, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	missing := map[[2]string]bool{}
	tenants, devices := make([]string, len(names)), make([]string, len(names))
	for i, name := range names {
		tenants[i], devices[i], _ = strings.Cut(name, "/")
		missing[[2]string{tenants[i], devices[i]}] = true
	}
	table := p.certificates.Table()
	err := p.query(ctx, db, func(r row) {
		delete(missing, [2]string{r.tenant, r.device})
		table.Put(r.tenant, r.device, r.status, r.end())
	}, columns+` WHERE (tenant_id::text, device_id::text) IN (SELECT * FROM unnest($1::text[], $2::text[]))`, tenants, devices)
	if err != nil {
		return err
	}
	for name := range missing {
		table.Delete(name[0], name[1])
	}
	return nil
}

// row is one certificate of the table.
type row struct {
	tenant, device, status string
	notAfter               *float64 // s since the epoch; nil: does not expire
}

// end returns the end of validity in ms since the epoch, or 0 if there is none.
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

// databaseError is an error of the database, or of the connection to it.
type databaseError struct{ error }

// Error returns the diagnosis of the server that was reached, or the error's text.
func (e *databaseError) Error() string {
	named, _ := postgres.Diagnose(e.error, databaseURL)
	return cmp.Or(named, e.error.Error())
}

func (e *databaseError) Unwrap() error { return e.error }

// databaseURL is the configuration key of the database URL.
const databaseURL = "identity.registry.database_url"

// Advice implements advice.Adviser. It is empty if the error is self-explanatory or only waiting
// helps.
func (e *databaseError) Advice() string {
	if server, ok := errors.AsType[*pgconn.PgError](e.error); ok {
		return adviceByCode[server.Code]
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](e.error); !ok {
		return ""
	}
	_, advice := postgres.Diagnose(e.error, databaseURL)
	return cmp.Or(advice, "make sure that PostgreSQL is running at the host and port of "+databaseURL)
}

// adviceByCode contains the advice about errors of PostgreSQL, by SQLSTATE.
var adviceByCode = map[string]string{
	"42P01": "create the table, see docs/registry.md",
	"42703": "the table needs the columns tenant_id, device_id, status and not_after, see docs/registry.md",
	"42501": "GRANT SELECT ON " + Table + " to the user of " + databaseURL,
	"28P01": wrongUser,
	"28000": wrongUser,
	"3D000": "check the database name in " + databaseURL,
}

const wrongUser = "check user and password of " + databaseURL + ", and pg_hba.conf"
