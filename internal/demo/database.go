package demo

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/ingest"
	"mqtt-nats-bridge/internal/sleep"
)

// database runs ingest into the user's PostgreSQL, in a temporary schema.
type database struct {
	ingest *ingest.Ingest
	db     *pgx.Conn
	url    *url.URL // as given
	schema string
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
	r.onClose(func() error { d.ingest.Close(); return nil })
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

// settle waits until ingest has settled the given number of messages, or ctx ends.
func (d *database) settle(ctx context.Context, messages uint64) {
	for {
		w := d.written()
		if w.Acknowledged+w.Poison >= messages || !sleep.For(ctx, 20*time.Millisecond) {
			return
		}
	}
}

// count returns the counts of ingest, with the rows that the database contains.
func (d *database) count(ctx context.Context) (*written, error) {
	w := d.written()
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
