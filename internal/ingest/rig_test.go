package ingest

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/embedded"
	"mqtt-nats-bridge/jetstream/streams"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// testServer is a PostgreSQL that tests share, each with a database of its own.
type testServer struct {
	url     string
	process *peers.PostgresProcess // nil where DATABASE_URL gave it
}

// sharedPostgres is the server that DATABASE_URL names, whose user must have permission to
// create databases, or else the test's own process.
func sharedPostgres(t *testing.T) *testServer {
	t.Helper()
	if given := os.Getenv("DATABASE_URL"); given != "" {
		return &testServer{url: given}
	}
	process := peers.Postgres(t, "fsync=off")
	return &testServer{url: process.URL, process: process}
}

// rig is a NATS server with the bridge's streams and a database without tables.
type rig struct {
	t        *testing.T
	server   *embedded.Server // nil where it is a process
	nats     string           // its URL
	js       natsjs.JetStream
	database string        // its URL
	look     time.Duration // between looks at a consumer; 0: the default
	db       *pgx.Conn
}

func newRig(t *testing.T, p *testServer) *rig {
	t.Helper()
	r := &rig{t: t}
	r.startServer(embedded.Options{StoreDir: t.TempDir()})
	r.database = createDatabase(t, p.url)
	var err error
	r.db, err = pgx.Connect(t.Context(), r.database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.db.Close(context.Background()) })
	return r
}

func (r *rig) startServer(o embedded.Options) {
	r.t.Helper()
	var err error
	r.server, err = embedded.Open(o)
	require.NoError(r.t, err)
	r.t.Cleanup(r.server.Close)
	r.connect(r.server.URL())
}

// connect creates the streams and consumers as the bridge does.
func (r *rig) connect(natsURL string) {
	r.t.Helper()
	r.nats = natsURL
	nc, err := nats.Connect(natsURL, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	require.NoError(r.t, err)
	r.t.Cleanup(nc.Close)
	r.js, err = natsjs.New(nc)
	require.NoError(r.t, err)
	c, err := config.Load(config.Sources{})
	require.NoError(r.t, err)
	plan, err := plan.Compile(c)
	require.NoError(r.t, err)
	_, err = streams.Manage(r.t.Context(), r.js, streams.ManageCreate, plan.Streams, plan.Consumers)
	require.NoError(r.t, err)
}

// createDatabase creates a database on base's server and drops it at the end.
func createDatabase(t *testing.T, base string) string {
	t.Helper()
	admin, err := pgx.Connect(t.Context(), base)
	require.NoError(t, err)
	name := fmt.Sprintf("ingest_test_%d", time.Now().UnixNano())
	_, err = admin.Exec(t.Context(), "CREATE DATABASE "+name)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, _ = admin.Exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)")
		_ = admin.Close(context.Background())
	})
	u, err := url.Parse(base)
	require.NoError(t, err)
	u.Path = "/" + name
	return u.String()
}

// ingest starts an ingest that stops with the test.
func (r *rig) ingest(set ...string) *Ingest {
	r.t.Helper()
	i, stop := r.start(set...)
	r.t.Cleanup(stop)
	return i
}

func (r *rig) start(set ...string) (_ *Ingest, stop func()) {
	r.t.Helper()
	flags := []config.Flag{
		{Path: "database.url", Value: r.database}, {Path: "nats.url", Value: r.nats},
		{Path: "batch.flush", Value: "50ms"}, {Path: "admin.listen", Value: ""},
	}
	for _, pair := range set {
		path, value, _ := strings.Cut(pair, "=")
		flags = append(flags, config.Flag{Path: path, Value: value})
	}
	c, err := config.LoadIngest(config.Sources{Flags: flags}, Check)
	require.NoError(r.t, err)
	var out io.Writer = zerolog.NewTestWriter(r.t)
	i, err := Open(Options{Config: c, Log: zerolog.New(out).Level(zerolog.ErrorLevel), Version: "test", lookEvery: r.look})
	require.NoError(r.t, err)
	done := false
	return i, func() {
		if !done {
			done = true
			i.Close()
		}
	}
}

// migrate creates the tables before an ingest runs.
func (r *rig) migrate() {
	r.t.Helper()
	conf, err := pgx.ParseConfig(r.database)
	require.NoError(r.t, err)
	_, err = Migrate(r.t.Context(), conf)
	require.NoError(r.t, err)
}

// message is a message to publish.
type message struct {
	subject, payload string
	headers          map[string]string
}

func (r *rig) publish(messages ...message) {
	r.t.Helper()
	for _, m := range messages {
		msg := &nats.Msg{Subject: m.subject, Data: []byte(m.payload), Header: nats.Header{}}
		for name, value := range m.headers {
			msg.Header.Set(name, value)
		}
		_, err := r.js.PublishMsg(r.t.Context(), msg)
		require.NoError(r.t, err)
	}
}

func id(text string) map[string]string { return map[string]string{"Nats-Msg-Id": text} }

// telemetry is a message of device acme/dev-1.
func telemetry(msgID, payload string) message {
	return message{"tenant.acme.device.dev-1.telemetry", payload, id(msgID)}
}

// query returns one column of a result as text, NULL as "null".
func (r *rig) query(sql string) []string {
	r.t.Helper()
	rows, err := r.db.Query(r.t.Context(), sql)
	require.NoError(r.t, err)
	got, err := pgx.CollectRows(rows, pgx.RowTo[*string])
	require.NoError(r.t, err)
	texts := make([]string, len(got))
	for i, s := range got {
		texts[i] = "null"
		if s != nil {
			texts[i] = *s
		}
	}
	return texts
}

// settled waits until the consumers have delivered everything and everything is
// acknowledged.
func (r *rig) settled() {
	r.t.Helper()
	for stream, consumer := range map[string]string{"TELEMETRY": "ingest-workers", "SHADOW": "ingest-shadow", "COMMANDS": "ingest-commands"} {
		var info *natsjs.ConsumerInfo
		r.eventually(func() bool {
			s, err := r.js.Stream(r.t.Context(), stream)
			if err != nil {
				return false
			}
			c, err := s.Consumer(r.t.Context(), consumer)
			if err != nil {
				return false
			}
			info = c.CachedInfo()
			// A consumer learns of new messages with a delay: zero pending
			// messages prove nothing until it has reached the last one.
			return info.NumPending == 0 && info.NumAckPending == 0 && info.Delivered.Stream >= s.CachedInfo().State.LastSeq
		}, func() any { return info })
	}
}

func (r *rig) eventually(done func() bool, said func() any) {
	r.t.Helper()
	deadline := time.Now().Add(testrun.Timeout)
	for !done() {
		if time.Now().After(deadline) {
			require.FailNow(r.t, "the condition was not met in time", "%+v", said())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// quarantined returns the messages in quarantine, oldest first.
func (r *rig) quarantined() []*natsjs.RawStreamMsg {
	r.t.Helper()
	s, err := r.js.Stream(r.t.Context(), "QUARANTINE")
	require.NoError(r.t, err)
	var all []*natsjs.RawStreamMsg
	if s.CachedInfo().State.Msgs == 0 {
		return nil
	}
	for seq := s.CachedInfo().State.FirstSeq; seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(r.t.Context(), seq)
		require.NoError(r.t, err)
		all = append(all, m)
	}
	return all
}

// replay makes the consumers start again at the first message.
func (r *rig) replay() {
	r.t.Helper()
	for stream, consumer := range map[string]string{"TELEMETRY": "ingest-workers", "SHADOW": "ingest-shadow", "COMMANDS": "ingest-commands"} {
		require.NoError(r.t, r.js.DeleteConsumer(r.t.Context(), stream, consumer))
		_, err := streams.Manage(r.t.Context(), r.js, streams.ManageCreate, nil, []streams.ConsumerSpec{{Stream: stream, Name: consumer}})
		require.NoError(r.t, err)
	}
}
