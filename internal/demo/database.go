package demo

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/ingest"
)

// database runs ingest into the user's PostgreSQL, in a temporary schema.
type database struct {
	ingest *ingest.Ingest
	db     *pgx.Conn
	url    *url.URL // as given
	schema string
	stop   func() // further calls do nothing
}

// startIngest starts ingest if the options name a database.
func (r *rig) startIngest(ctx context.Context, o Options, log zerolog.Logger) error {
	if o.DatabaseURL == "" {
		return nil
	}
	d := &database{schema: "mqtt_nats_demo_" + strconv.FormatInt(time.Now().UnixNano(), 36)}
	var err error
	if d.url, err = url.Parse(o.DatabaseURL); err != nil {
		return errors.New("read the database URL: it does not have the form postgres://user@host:port/name")
	}
	if d.db, err = pgx.Connect(ctx, o.DatabaseURL); err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	r.onClose(func() error { return d.db.Close(context.Background()) })
	if _, err := d.db.Exec(ctx, "CREATE SCHEMA "+d.schema); err != nil {
		return fmt.Errorf("create a schema for the demo: %w", err)
	}
	r.onClose(func() error {
		_, err := d.db.Exec(context.Background(), "DROP SCHEMA "+d.schema+" CASCADE")
		return err
	})
	if _, err := d.db.Exec(ctx, "SET search_path = "+d.schema); err != nil {
		return err
	}
	target := *d.url
	q := target.Query()
	q.Set("search_path", d.schema)
	target.RawQuery = q.Encode()
	c, err := config.LoadIngest(config.Sources{Flags: []config.Flag{
		{Path: "database.url", Value: target.String()},
		{Path: "nats.url", Value: r.server.URL()},
		{Path: "batch.flush", Value: "200ms"},
		{Path: "admin.listen", Value: ""},
	}}, ingest.Check)
	if err != nil {
		return fmt.Errorf("configure ingest: %w", err)
	}
	if d.ingest, err = ingest.Open(ingest.Options{Config: c, Log: log, Version: o.Version}); err != nil {
		return fmt.Errorf("start ingest: %w", err)
	}
	d.stop = sync.OnceFunc(d.ingest.Close)
	r.onClose(func() error { d.stop(); return nil })
	r.database = d
	return nil
}

// written contains the counts of ingest.
type written struct {
	Telemetry, States, Commands uint64 // rows
	// Acknowledged and Poison count the messages that ingest has settled.
	Acknowledged, Poison uint64
	Lag                  uint64 // messages in the streams that are not acknowledged
}

// written returns the counts that ingest reports. The rows are those that it has inserted.
func (d *database) written() *written {
	if d == nil {
		return nil
	}
	w := &written{}
	for _, t := range d.ingest.Tables() {
		switch t.Table {
		case "telemetry":
			w.Telemetry = t.Rows
		case "device_state":
			w.States = t.Rows
		case "device_commands":
			w.Commands = t.Rows
		}
		w.Acknowledged += t.Acknowledged
		w.Poison += t.Quarantined
		w.Lag += t.Lag
	}
	return w
}

// settled waits until ingest has settled the given number of messages, at most until the deadline. It
// then counts the rows in the database.
func (d *database) settled(ctx context.Context, messages uint64, deadline <-chan time.Time) (*written, error) {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	w := d.written()
	for waiting := true; waiting && w.Acknowledged+w.Poison < messages; w = d.written() {
		select {
		case <-poll.C:
		case <-deadline:
			waiting = false
		}
	}
	err := d.db.QueryRow(ctx, `SELECT (SELECT count(*) FROM telemetry), (SELECT count(*) FROM device_state), (SELECT count(*) FROM device_commands)`).
		Scan(&w.Telemetry, &w.States, &w.Commands)
	if err != nil {
		return w, fmt.Errorf("count the rows: %w", err)
	}
	return w, nil
}

// query returns a command that shows the written rows. It does not contain the password.
func (d *database) query() string {
	shown := *d.url
	if d.url.User != nil {
		shown.User = url.User(d.url.User.Username())
	}
	q := shown.Query()
	q.Del("password")
	shown.RawQuery = q.Encode()
	return fmt.Sprintf("psql '%s' -c 'SELECT * FROM %s.telemetry ORDER BY time DESC LIMIT 5'", shown.String(), d.schema)
}
