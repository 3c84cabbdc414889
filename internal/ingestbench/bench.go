// Package ingestbench measures ingest. One ingest process writes messages from a nats-server
// process to a given PostgreSQL. For comparison, a bare COPY then writes the resulting rows.
package ingestbench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"

	"mqtt-nats-bridge/internal/ingest"
	"mqtt-nats-bridge/internal/measure"
)

// Options configures a bench. Database is required. The zero value of another field selects its
// default.
type Options struct {
	Database *pgx.ConnConfig
	// URL is the URL of the same database, for the ingest process.
	URL      string
	Messages int // default 200,000
	Devices  int // default 1,000
	Size     int // payload in bytes; default 256
	Rounds   int // default 3, medians are printed
	Workers  int // default 4
	Batch    int // default 500
	// Profile is a directory for a CPU profile of ingest; empty: none.
	Profile string
	Out     io.Writer
}

func (o *Options) setDefaults() {
	o.Messages = cmp.Or(o.Messages, 200_000)
	o.Devices = cmp.Or(o.Devices, 1000)
	o.Size = cmp.Or(o.Size, 256)
	o.Rounds = cmp.Or(o.Rounds, 3)
	o.Workers = cmp.Or(o.Workers, 4)
	o.Batch = cmp.Or(o.Batch, 500)
}

// result is the result of one round.
type result struct {
	rate            float64 // rows per second of ingest
	copyRate        float64 // of the bare COPY into a table with the same keys
	heapRate        float64 // of the bare COPY into a table without keys
	ingest, server  time.Duration
	rss             int64
	rowsPerExchange float64
}

// bench is the state that all rounds share.
type bench struct {
	Options
	schema string
	db     *pgx.Conn
	nats   *measure.Process
	url    string
}

// Run measures and prints a table. It uses a temporary schema.
func Run(ctx context.Context, o Options) (err error) {
	o.setDefaults()
	if runtime.GOOS != "linux" {
		return errors.New("bench runs only on Linux: it reads CPU times from /proc")
	}
	b := &bench{Options: o, schema: "ingest_bench_" + strconv.FormatInt(time.Now().UnixNano(), 36)}
	if b.db, err = pgx.ConnectConfig(ctx, o.Database); err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer b.db.Close(context.WithoutCancel(ctx))
	dir, err := os.MkdirTemp("", "ingest-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := b.startServer(ctx, dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.nats.Stop()) }()
	var postgres string
	if err := b.db.QueryRow(ctx, "SHOW server_version").Scan(&postgres); err != nil {
		return err
	}
	fmt.Fprintf(o.Out, "%s, %d CPUs, %s, PostgreSQL %s; %s messages of %d bytes from %s devices,\n%d workers, batches of %d, JetStream file store, all on this machine, %d rounds, medians\n\n",
		measure.CPUName(), runtime.NumCPU(), runtime.Version(), postgres,
		measure.Thousands(o.Messages), o.Size, measure.Thousands(o.Devices), o.Workers, o.Batch, o.Rounds)
	if err := b.load(ctx); err != nil {
		return err
	}
	var all []result
	for n := range o.Rounds {
		r, err := b.round(ctx, filepath.Join(dir, "rows"), n == 0)
		if err != nil {
			return err
		}
		all = append(all, r)
	}
	return b.print(all)
}

// round runs ingest until everything is stored, then copies the same rows with bare COPYs.
func (b *bench) round(ctx context.Context, rows string, profiled bool) (r result, err error) {
	if err := b.exec(ctx, "CREATE SCHEMA "+b.schema, "SET search_path = "+b.schema); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, b.drop(context.WithoutCancel(ctx))) }()
	conf := b.Database.Copy()
	conf.RuntimeParams["search_path"] = b.schema
	if _, err := ingest.Migrate(ctx, conf); err != nil {
		return r, err
	}
	if err := b.exec(ctx, "CREATE TABLE bare (LIKE telemetry INCLUDING ALL)", "CREATE TABLE heap (LIKE telemetry)", "CHECKPOINT"); err != nil {
		return r, err
	}
	if err := b.ingest(ctx, &r, profiled); err != nil {
		return r, err
	}
	if r.copyRate, err = b.copy(ctx, rows, "bare"); err != nil {
		return r, err
	}
	r.heapRate, err = b.copy(ctx, rows, "heap")
	return r, err
}

// drop uses a separate connection: pgx closes a connection whose statement was interrupted.
func (b *bench) drop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dropTimeout)
	defer cancel()
	db, err := pgx.ConnectConfig(ctx, b.Database)
	if err != nil {
		return fmt.Errorf("drop schema %s: %w", b.schema, err)
	}
	defer db.Close(ctx)
	if _, err := db.Exec(ctx, "DROP SCHEMA "+b.schema+" CASCADE"); err != nil {
		return fmt.Errorf("drop schema %s: %w", b.schema, err)
	}
	return nil
}

// dropTimeout gives an interrupted statement time to release its locks.
const dropTimeout = 30 * time.Second

func (b *bench) exec(ctx context.Context, statements ...string) error {
	for _, s := range statements {
		if _, err := b.db.Exec(ctx, s); err != nil {
			// A checkpoint needs a permission and is optional: it only makes rounds more
			// comparable.
			if s == "CHECKPOINT" {
				continue
			}
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// copy copies the rows that ingest wrote into another table, with one COPY.
func (b *bench) copy(ctx context.Context, file, into string) (rate float64, err error) {
	out, err := os.Create(file)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	// Use a query: COPY of a hypertable by name would copy its empty root table.
	tag, err := b.db.PgConn().CopyTo(ctx, out, "COPY (SELECT * FROM telemetry) TO STDOUT (FORMAT binary)")
	if err != nil {
		return 0, fmt.Errorf("read the rows: %w", err)
	}
	if int(tag.RowsAffected()) != b.Messages {
		return 0, fmt.Errorf("expected %d rows, found %d", b.Messages, tag.RowsAffected())
	}
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	began := time.Now()
	if _, err := b.db.PgConn().CopyFrom(ctx, out, "COPY "+into+" FROM STDIN (FORMAT binary)"); err != nil {
		return 0, fmt.Errorf("copy the rows: %w", err)
	}
	return float64(b.Messages) / time.Since(began).Seconds(), nil
}

func (b *bench) print(all []result) error {
	of := func(field func(result) float64) float64 {
		values := make([]float64, len(all))
		for i, r := range all {
			values[i] = field(r)
		}
		return measure.Median(values)
	}
	w := tabwriter.NewWriter(b.Out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "rows/s\tbare COPY rows/s\tof bare\tCOPY without keys\tingest µs CPU\tserver µs CPU\trows per transaction\tpeak MiB\t")
	fmt.Fprintf(w, "%s\t%s\t%.0f %%\t%s\t%.1f\t%.1f\t%.0f\t%.0f\t\n",
		measure.Thousands(int(of(func(r result) float64 { return r.rate }))),
		measure.Thousands(int(of(func(r result) float64 { return r.copyRate }))),
		100*of(func(r result) float64 { return r.rate / r.copyRate }),
		measure.Thousands(int(of(func(r result) float64 { return r.heapRate }))),
		of(func(r result) float64 { return float64(r.ingest) / 1e3 / float64(b.Messages) }),
		of(func(r result) float64 { return float64(r.server) / 1e3 / float64(b.Messages) }),
		of(func(r result) float64 { return r.rowsPerExchange }),
		of(func(r result) float64 { return float64(r.rss) / (1 << 20) }))
	return w.Flush()
}
