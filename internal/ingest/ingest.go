package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/account"
	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/health"
	"mqtt-nats-bridge/internal/page"
	"mqtt-nats-bridge/internal/schema"
	"mqtt-nats-bridge/internal/sleep"
	"mqtt-nats-bridge/internal/tracing"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/consume"
	"mqtt-nats-bridge/jetstream/streams"
)

// Options configures an ingest. Config is required.
type Options struct {
	Config  *config.Ingest
	Log     zerolog.Logger
	Version string

	lookEvery time.Duration // between checks of a consumer; 0: the default
}

// Ingest is a running ingest.
type Ingest struct {
	*page.Page // its methods are part of [endpoint.Program]

	opts       Options
	started    time.Time
	conf       *pgxpool.Config
	nc         *nats.Conn
	js         natsjs.JetStream
	database   *database
	intakes    []*intake
	connection *health.Condition
	rights     rights
	denied     conn.Violations   // of requests about consumers
	running    *config.Ingest    // the effective configuration, used only by Reload
	tracing    *tracing.Exporter // nil: no spans

	cancel context.CancelFunc
	wait   sync.WaitGroup
	failed chan error
}

// intake is one consumer and the table that it fills.
type intake struct {
	consumer   streams.ConsumerSpec
	reconciler *streams.Reconciler
	writer     *writer
	workers    *consume.Workers
	start      sync.Once // of the workers
	count      int
	found      *health.Condition // the consumer exists
	pulls      *health.Condition // messages can be pulled
	takes      *health.Condition // quarantine accepts messages
}

// Check returns the errors that only the parsers of patterns and of the database URL can find. It
// is an argument of [config.LoadIngest].
func Check(c *config.Ingest) []config.Error {
	var errs []config.Error
	if _, err := connConfig(c.Database); err != nil {
		errs = append(errs, c.ErrorAt("database.url", err.Error()))
	}
	for _, in := range sources(c) {
		if _, err := parseAddresses(in.Topic, in.kinds); err != nil {
			errs = append(errs, c.ErrorAt(in.path+".topic", err.Error()))
		}
	}
	return errs
}

// source is the configuration of an enabled intake.
type source struct {
	config.Intake
	path  string
	kinds bool
	table func() *table
}

func sources(c *config.Ingest) []source {
	var all []source
	for _, s := range []source{
		{c.Telemetry.Intake, "telemetry", true, func() *table { return telemetryTable(c.Telemetry.Payload) }},
		{c.Shadow, "shadow", false, stateTable},
		{c.Commands, "commands", false, commandTable},
	} {
		if s.Stream != "" {
			all = append(all, s)
		}
	}
	return all
}

// ConnConfig returns the configuration of database connections, for Migrate.
func ConnConfig(c *config.Ingest) (*pgxpool.Config, error) {
	conf, err := connConfig(c.Database)
	if err != nil {
		return nil, fmt.Errorf("database.url %w", err)
	}
	return conf, nil
}

// Open starts an ingest. An unreachable database or NATS server is not an error: ingest keeps
// retrying and is not ready. The error is an error in the configuration.
func Open(opts Options) (*Ingest, error) {
	c := opts.Config
	conf, err := ConnConfig(c)
	if err != nil {
		return nil, err
	}
	opts.lookEvery = cmp.Or(opts.lookEvery, lookEvery)
	i := &Ingest{opts: opts, started: time.Now(), conf: conf, failed: make(chan error, 1), running: c}
	i.Page = page.New(&overview{i})
	i.connection = account.NewConnection(opts.Log)
	for _, w := range c.Warnings() {
		opts.Log.Warn().Str("component", "configuration").Msg(w)
	}
	if err := i.connect(); err != nil {
		return nil, err
	}
	i.tracing = tracing.Open(tracing.Options{
		Endpoint: i.opts.Config.Tracing.Endpoint.String(), Service: "mqtt-nats-bridge-ingest", Version: i.opts.Version, Log: i.opts.Log,
	})
	if err := i.plan(); err != nil {
		i.tracing.Close(context.Background())
		i.nc.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	i.cancel = cancel
	ready := make(chan struct{})
	i.wait.Go(func() {
		if i.prepareTables(ctx) {
			close(ready)
		}
	})
	for _, in := range i.intakes {
		i.wait.Go(func() {
			select {
			case <-ready:
				in.reconciler.LookAgain()
				in.reconciler.Run(ctx)
			case <-ctx.Done():
			}
		})
	}
	return i, nil
}

// firstWait is how long the start waits for NATS. Until then /livez does not answer, and no signal ends the
// start.
const firstWait = time.Second

func (i *Ingest) connect() error {
	o := account.Options(i.opts.Config.NATS, "ingest")
	o.InitialConnectTimeout = firstWait
	o.Hooks = i.hooks()
	o, err := o.Resolve()
	if err != nil {
		return err
	}
	if i.nc, err = conn.Connect(o); err != nil {
		return err
	}
	if i.js, err = o.JetStream(i.nc); err != nil {
		i.nc.Close()
		return err
	}
	return nil
}

func (i *Ingest) hooks() conn.Hooks {
	h := account.Hooks(i.connection, i.opts.Log, func(bool) { i.rights.granted() })
	h.Closed = func(err error) { i.failed <- err } // once
	failed := h.Error
	h.Error = func(nc *nats.Conn, err error) {
		if i.denied.Note(err) {
			return // reported by the lookup or creation of the consumer
		}
		if known, first := i.rights.refused(err); known && !first {
			return // would be logged for every pull and every message
		}
		failed(nc, err)
	}
	return h
}

// plan creates the writers and the workers that feed them.
func (i *Ingest) plan() error {
	c := i.opts.Config
	var tables []*table
	connections := 0
	for _, s := range sources(c) {
		a, err := parseAddresses(s.Topic, s.kinds)
		if err != nil {
			return fmt.Errorf("%s.topic: %w", s.path, err)
		}
		t := s.table()
		tables = append(tables, t)
		connections += s.Workers
		log := i.opts.Log.With().Str("stream", s.Stream).Logger()
		i.intakes = append(i.intakes, &intake{
			found: health.New(health.Options{
				Component: "consumer", Log: log, Failed: "the consumer could not be looked up or created",
				Initial: fmt.Errorf("consumer %s/%s has not been looked up yet", s.Stream, s.Consumer),
			}),
			pulls: health.New(health.Options{Component: "consumer", Log: log, Failed: "no messages can be pulled", Ended: "pulling messages"}),
			takes: health.New(health.Options{
				Component: "quarantine", Log: log, Failed: "a message belongs in quarantine, which does not take it", Ended: "quarantine takes messages again",
			}),
			consumer: streams.ConsumerSpec{
				Stream: s.Stream, Name: s.Consumer,
				AckWait: streams.DefaultAckWait, MaxAckPending: streams.DefaultMaxAckPending,
			},
			writer: &writer{
				table: t, addresses: a, timeout: c.Database.Timeout, tracing: i.tracing, stream: s.Stream, consumer: s.Consumer,
			},
			count: s.Workers,
		})
	}
	var err error
	if i.database, err = openDatabase(i.conf, tables, c.Database.Timeout, connections, i.opts.Log); err != nil {
		return err
	}
	for _, in := range i.intakes {
		in.writer.database, in.reconciler = i.database, i.newReconciler(in)
		if in.workers, err = consume.NewWorkers(i.workersOptions(in)); err != nil {
			i.database.pool.Close()
			return err
		}
	}
	return nil
}

func (i *Ingest) workersOptions(in *intake) consume.Options {
	c := i.opts.Config
	log := i.opts.Log.With().Str("stream", in.consumer.Stream).Logger()
	return consume.Options{
		JetStream: i.js, Stream: in.consumer.Stream, Consumer: in.consumer.Name, Handler: in.writer.handle,
		Workers: in.count, Batch: c.Batch.Messages, BatchBytes: int(c.Batch.Bytes), BatchWait: c.Batch.Flush,
		MaxDeliveries: c.MaxDeliveries, StopTimeout: c.StopTimeout,
		Hooks: consume.Hooks{
			FetchProblem: func(err error) {
				if errors.Is(err, conn.ErrDisconnected) { // logged by the connection
					in.pulls.SetAs(zerolog.NoLevel, "", err)
					return
				}
				in.pulls.Set(err)
			},
			QuarantineProblem: in.takes.Set,
			Quarantined: func(m *consume.Message, err error) {
				log.Debug().Uint64("sequence", m.Sequence).AnErr("cause", err).Msg("message quarantined")
			},
		},
	}
}

// prepareTables retries until the tables exist. It returns false if ctx ends first.
func (i *Ingest) prepareTables(ctx context.Context) bool {
	for wait := pauseMin; ; wait = min(2*wait, pauseMax) {
		attempt, cancel := context.WithTimeout(ctx, time.Minute)
		err := i.migrate(attempt)
		cancel()
		if err == nil {
			i.database.works("")
			return true
		}
		if ctx.Err() == nil {
			i.database.fails("", err)
		}
		if !sleep.For(ctx, wait) {
			return false
		}
	}
}

func (i *Ingest) migrate(ctx context.Context) error {
	conf, err := ConnConfig(i.opts.Config) // with the present credentials
	if err != nil {
		return err
	}
	if !i.opts.Config.Database.Migrate {
		return migrated(ctx, conf.ConnConfig)
	}
	steps, err := Migrate(ctx, conf.ConnConfig)
	for _, s := range steps {
		i.opts.Log.Info().Int64("version", s.Version).Str("migration", s.Name).Msg("migrated the tables")
	}
	return err
}

// lookEvery is the time between checks of a consumer.
const lookEvery = 30 * time.Second

// newReconciler returns the reconciler of an intake's consumer. When the consumer exists, it starts
// the workers. If the permission or the stream is missing, it waits without delaying other intakes.
func (i *Ingest) newReconciler(in *intake) *streams.Reconciler {
	look := func(ctx context.Context) error { return i.manageConsumer(ctx, in.consumer) }
	return streams.NewReconciler(i.nc, i.opts.lookEvery, look, func(ctx context.Context, err error) {
		if !errors.Is(err, conn.ErrDisconnected) { // logged by the connection
			in.found.Set(err)
		}
		if err == nil {
			in.start.Do(func() { i.wait.Go(func() { in.workers.Run(ctx) }) })
		}
	})
}

func (i *Ingest) manageConsumer(ctx context.Context, spec streams.ConsumerSpec) error {
	mode := streams.ManageCreate
	if i.opts.Config.Consumers == config.ConsumersVerify {
		mode = streams.ManageVerify
	}
	var report *streams.Report
	err := i.denied.Do(ctx, func(p *conn.PermissionError) bool { return concerns(p, spec) }, func(ctx context.Context) (err error) {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		report, err = streams.Manage(attempt, i.js, mode, nil, []streams.ConsumerSpec{spec})
		return advice.Streams(err)
	})
	switch {
	case errors.Is(err, streams.ErrContradiction):
		return err
	case mode == streams.ManageVerify:
		return nil // the workers report other problems
	case errors.Is(err, natsjs.ErrStreamNotFound):
		return fmt.Errorf("stream %s does not exist: start the bridge, which creates it, or configure another stream: %w", spec.Stream, natsjs.ErrStreamNotFound)
	case err != nil:
		return err
	}
	for _, name := range report.Created {
		i.opts.Log.Info().Str("name", name).Msg("stream or consumer created")
	}
	for _, note := range report.Notes {
		i.opts.Log.Warn().Str("component", "consumer").Str("note", note).Msg("consumer differs from the configuration")
	}
	return nil
}

// concerns reports whether the permission is needed to look up or create the consumer.
func concerns(p *conn.PermissionError, spec streams.ConsumerSpec) bool {
	if p.Operation == "subscribe to" {
		return true // an inbox
	}
	_, operation, _ := strings.Cut(p.Subject, ".API.")
	for _, does := range []string{"CONSUMER.INFO.", "CONSUMER.CREATE.", "CONSUMER.DURABLE.CREATE."} {
		if rest, ok := strings.CutPrefix(operation, does); ok {
			return rest == spec.Stream+"."+spec.Name || strings.HasPrefix(rest, spec.Stream+"."+spec.Name+".")
		}
	}
	return operation == "STREAM.INFO."+spec.Stream
}

// Reload compares c with the effective configuration. It returns the paths that changed and the
// paths that differ and need a restart. Of the changed ones, the command applies log.level, and
// secrets in files are read at each connect. Calls must not be concurrent.
func (i *Ingest) Reload(c *config.Ingest) (changed, restart []string) {
	i.running, changed, restart = schema.Reload(i.running, c, "log.level")
	return changed, restart
}

// Failed delivers an error that only a restart can fix: the connection to NATS was closed
// permanently.
func (i *Ingest) Failed() <-chan error { return i.failed }

// Close finishes and acknowledges batches in progress, for at most stop_timeout, then disconnects,
// for at most closeTimeout. Other messages are redelivered, to this or another ingest.
func (i *Ingest) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), i.opts.Config.StopTimeout+closeTimeout)
	defer cancel()
	i.cancel()
	closed := sleep.Await(ctx, i.wait.Wait)
	closed = sleep.Await(ctx, i.database.pool.Close) && closed
	closed = sleep.Await(ctx, i.nc.Close) && closed
	i.tracing.Close(ctx)
	if !closed {
		i.opts.Log.Warn().Str("component", "process").Msg("stopped before every connection was closed")
	}
}

// closeTimeout bounds what Close does after the batches. During an attempt to connect, nats.go closes no
// connection (up to 5 s per server that does not answer), and pgx waits up to 15 s for statements that it cancels.
const closeTimeout = 2 * time.Second
