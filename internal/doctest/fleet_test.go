package doctest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/ingest"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/testrun"
)

// noon is the time at which the broker receives all messages.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// password is the bridge's password at the broker.
const password = "of the bridge"

// fleet is the environment that a page assumes: an attesting broker, a nats-server and a PostgreSQL
// as processes, a bridge with a limit that is too low, and ingest.
type fleet struct {
	t        *testing.T
	broker   *broker.Broker
	nats     *peers.NATSProcess
	postgres *peers.PostgresProcess
	js       natsjs.JetStream
	bridge   *peers.Process
	ingest   *ingest.Ingest // nil while it is stopped
}

// newServers starts the servers that a bridge and ingest need. The broker's clock is now; nil: the
// time of day.
func newServers(t *testing.T, now func() time.Time) *fleet {
	t.Helper()
	f := &fleet{t: t}
	var err error
	f.broker, err = broker.Open(broker.Options{
		Username: "bridge", Password: password, Attest: true, DeviceUsernames: true, Now: now,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.broker.Close()) })
	f.nats = peers.NATSServer(t, peers.NATSOptions{})
	nc, err := nats.Connect(f.nats.URL, nats.MaxReconnects(-1))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	f.js, err = natsjs.New(nc)
	require.NoError(t, err)
	f.postgres = peers.Postgres(t, "fsync=off")
	return f
}

// newFleet also starts the bridge and ingest.
func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := newServers(t, func() time.Time { return noon })
	f.bridge = peers.Bridge(t, peers.BridgeOptions{Args: []string{"run"}, Config: f.config("{rate: 1, burst: 2}")})
	f.awaitBridge(0)
	f.startIngest()
	t.Cleanup(f.stopIngest)
	return f
}

// config returns the bridge's configuration, with this limit for each device.
func (f *fleet) config(limit string) string {
	f.t.Helper()
	file := filepath.Join(f.t.TempDir(), "password")
	require.NoError(f.t, os.WriteFile(file, []byte(password), 0o600))
	return fmt.Sprintf(`mqtt: {url: %q, username: bridge, password_file: %q}
nats: {url: %q}
limits: {device: %s}
admin: {listen: ""}
log: {format: json}
`, f.broker.URL(), file, f.nats.URL, limit)
}

// awaitBridge waits for the sessions of all sixteen lanes in the log, from an offset on.
func (f *fleet) awaitBridge(from int) {
	f.t.Helper()
	for range 16 {
		from = f.bridge.Log().Await(f.t, from, "mqtt connected")
	}
}

func (f *fleet) stopBridge() { require.Zero(f.t, f.bridge.Stop()) }

func (f *fleet) startBridge() {
	from := len(f.bridge.Log().String())
	f.bridge.Start()
	f.awaitBridge(from)
}

func (f *fleet) startIngest() {
	c, err := config.LoadIngest(config.Sources{Flags: []config.Flag{
		{Path: "database.url", Value: f.postgres.URL}, {Path: "nats.url", Value: f.nats.URL},
		{Path: "batch.flush", Value: "50ms"}, {Path: "admin.listen", Value: ""},
	}}, ingest.Check)
	require.NoError(f.t, err)
	f.ingest, err = ingest.Open(ingest.Options{Config: c, Log: zerolog.Nop(), Version: "test"})
	require.NoError(f.t, err)
}

func (f *fleet) stopIngest() {
	if f.ingest != nil {
		f.ingest.Close()
		f.ingest = nil
	}
}

// publish sends messages as the device with this CN.
func (f *fleet) publish(cn, topic string, payloads ...string) {
	f.t.Helper()
	c := paho.NewClient(paho.NewClientOptions().AddBroker(f.broker.URL()).SetClientID("device " + cn).
		SetUsername(cn).SetProtocolVersion(4))
	f.await(c.Connect())
	defer c.Disconnect(100)
	for _, payload := range payloads {
		f.await(c.Publish(topic, 1, false, payload))
	}
}

func (f *fleet) await(token paho.Token) {
	f.t.Helper()
	require.True(f.t, token.WaitTimeout(testrun.Timeout), "no answer from the broker")
	require.NoError(f.t, token.Error())
}

// awaitMessages waits until a stream has n messages.
func (f *fleet) awaitMessages(stream string, n int) {
	f.t.Helper()
	f.eventually(stream, func() bool {
		s, err := f.js.Stream(f.t.Context(), stream)
		return err == nil && s.CachedInfo().State.Msgs == uint64(n)
	})
}

// rows waits until the table telemetry has n rows.
func (f *fleet) rows(n int) {
	f.t.Helper()
	f.rowsOf("telemetry", n)
}

func (f *fleet) rowsOf(table string, n int) {
	f.t.Helper()
	db, err := pgx.Connect(f.t.Context(), f.postgres.URL)
	require.NoError(f.t, err)
	defer func() { require.NoError(f.t, db.Close(f.t.Context())) }()
	f.eventually(fmt.Sprintf("%d rows of %s", n, table), func() bool {
		var have int
		return db.QueryRow(f.t.Context(), "SELECT count(*) FROM "+table).Scan(&have) == nil && have == n
	})
}

// worked waits until ingest has acknowledged all telemetry, the last of it longer than ago before now.
func (f *fleet) worked(ago time.Duration) {
	f.t.Helper()
	f.eventually("idle workers", func() bool {
		c, err := f.js.Consumer(f.t.Context(), "TELEMETRY", "ingest-workers")
		if err != nil {
			return false
		}
		info := c.CachedInfo()
		return info.NumPending == 0 && info.NumAckPending == 0 && info.AckFloor.Last != nil && time.Since(*info.AckFloor.Last) > ago
	})
}

// forgets sets the deduplication window of the quarantine. It also waits that long if the window is
// short.
func (f *fleet) forgets(window time.Duration) {
	f.t.Helper()
	s, err := f.js.Stream(f.t.Context(), "QUARANTINE")
	require.NoError(f.t, err)
	c := s.CachedInfo().Config
	c.Duplicates = window
	_, err = f.js.UpdateStream(f.t.Context(), c)
	require.NoError(f.t, err)
	if window < time.Second {
		last, err := s.GetLastMsgForSubject(f.t.Context(), "quarantine.>")
		require.NoError(f.t, err)
		f.eventually("old enough", func() bool { return time.Since(last.Time) > 2*window })
	}
}

func (f *fleet) eventually(what string, done func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(testrun.Timeout); !done(); time.Sleep(10 * time.Millisecond) {
		require.True(f.t, time.Now().Before(deadline), "%s: the condition was not met in time", what)
	}
}
