package ingest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/testrun"
)

// awaitProblem waits until ingest is not ready because of the database, with a
// message that contains words.
func awaitProblem(r *rig, i *Ingest, words ...string) {
	r.t.Helper()
	r.eventually(func() bool {
		for _, p := range i.Problems() {
			text := p.Problem + " " + p.Advice
			if p.Component == "database" && !strings.Contains(text, "not connected yet") && containsAll(text, words) {
				return true
			}
		}
		return false
	}, func() any { return i.Problems() })
}

func containsAll(text string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

func awaitWell(r *rig, i *Ingest) {
	r.t.Helper()
	r.eventually(func() bool { ready, _ := i.Ready(); return ready }, func() any { return i.Problems() })
}

// requireUnacknowledged waits until the server counts n messages that are not acknowledged: it counts what was
// stored a moment later. Had one been acknowledged, it would not get there.
func requireUnacknowledged(r *rig, n int) {
	r.t.Helper()
	unacknowledged := func() int {
		c, err := r.js.Consumer(r.t.Context(), "TELEMETRY", "ingest-workers")
		require.NoError(r.t, err)
		return c.CachedInfo().NumAckPending + int(c.CachedInfo().NumPending)
	}
	r.eventually(func() bool { return unacknowledged() == n }, func() any { return unacknowledged() })
}

func TestDatabaseOutage(t *testing.T) {
	t.Parallel()
	t.Run("ingest waits and loses nothing", testIngestWaitsAndLosesNothing)
	t.Run("stop ends within its timeout", testStopEndsWithinItsTimeout)
	t.Run("stop does not wait for silent database", testStopDoesNotWaitForSilentDatabase)
}

// The database is unreachable at the start, then killed, then reachable without an answer.
func testIngestWaitsAndLosesNothing(t *testing.T) {
	t.Parallel()
	process := peers.Postgres(t)
	r := newRig(t, &testServer{url: process.URL, process: process})
	require.NoError(t, r.db.Close(t.Context()))
	process.Stop()
	published := 0
	publish := func(n int) {
		for range n {
			r.publish(telemetry(fmt.Sprint("m", published), `{}`))
			published++
		}
	}
	publish(10)
	i := r.ingest("database.timeout=1s")
	awaitProblem(r, i, "cannot be reached", "refused", "make sure that PostgreSQL is running")
	requireUnacknowledged(r, 10)
	process.Start()
	r.settled()
	awaitWell(r, i)

	// The server's processes outlive their parent by a moment, and may still store some:
	// the count at the end shows that every acknowledged message is stored.
	process.Kill9()
	publish(10)
	awaitProblem(r, i, "PostgreSQL")
	process.Start()
	r.settled()
	awaitWell(r, i)

	var err error
	r.db, err = pgx.Connect(t.Context(), r.database)
	require.NoError(t, err)
	tx, err := r.db.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE telemetry")
	require.NoError(t, err)
	publish(10)
	awaitProblem(r, i, "55P03", "pg_locks")
	requireUnacknowledged(r, 10)
	require.NoError(t, tx.Rollback(t.Context()))
	r.settled()
	awaitWell(r, i)

	require.Equal(t, []string{"30"}, r.query(`SELECT count(*)::text FROM telemetry`))
	require.Empty(t, r.quarantined())
}

// Each error of the database, what ingest reports, and what fixes it.
func TestDatabaseRefusal(t *testing.T) {
	t.Parallel()
	p := sharedPostgres(t)
	raise := func(code string) string {
		return `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '` + code + `'; END $$;
			CREATE TRIGGER refuse BEFORE INSERT ON telemetry FOR EACH ROW EXECUTE FUNCTION refuse()`
	}
	const fixed = `DROP TRIGGER refuse ON telemetry`
	for name, c := range map[string]struct {
		breaks, fixes string
		says          []string
	}{
		"disk full":     {raise("53100"), fixed, []string{"53100", "free space"}},
		"shutting down": {raise("57P01"), fixed, []string{"57P01"}},
		"locked":        {raise("55P03"), fixed, []string{"55P03"}},
		"read-only":     {raise("25006"), fixed, []string{"25006", "standby"}},
		"I/O error":     {raise("58030"), fixed, []string{"58030"}},
		"no table":      {`ALTER TABLE telemetry RENAME TO elsewhere`, `ALTER TABLE elsewhere RENAME TO telemetry`, []string{"42P01", "ingest migrate"}},
		"no key":        {`ALTER TABLE telemetry DROP CONSTRAINT telemetry_pkey`, `ALTER TABLE telemetry ADD PRIMARY KEY (msg_id, time)`, []string{"42P10", "primary key"}},
		"no column":     {`ALTER TABLE telemetry RENAME cn TO nc`, `ALTER TABLE telemetry RENAME nc TO cn`, []string{"42703", "ingest migrate"}},
		"own column": {`ALTER TABLE telemetry ADD site text NOT NULL`,
			`ALTER TABLE telemetry ALTER site SET DEFAULT 'unknown'`, []string{"23502", "give the column site of telemetry a default"}},
		"serialization fails": {raise("40001"), fixed, []string{"40001"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, p)
			r.migrate()
			_, err := r.db.Exec(t.Context(), c.breaks)
			require.NoError(t, err)
			for n := range 20 {
				r.publish(telemetry(fmt.Sprint("m", n), `{}`))
			}
			i := r.ingest()
			awaitProblem(r, i, c.says...)
			requireUnacknowledged(r, 20)
			_, err = r.db.Exec(t.Context(), c.fixes)
			require.NoError(t, err)
			r.settled()
			awaitWell(r, i)
			require.Equal(t, []string{"20"}, r.query(`SELECT count(*)::text FROM telemetry`))
			require.Zero(t, i.Tables()[0].Halvings)
			require.Empty(t, r.quarantined())
		})
	}
}

// requireEnds fails if stop does not return.
func requireEnds(t *testing.T, stop func(), otherwise string) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		stop()
	}()
	select {
	case <-done:
	case <-time.After(testrun.Timeout):
		require.Fail(t, otherwise)
	}
}

func testStopEndsWithinItsTimeout(t *testing.T) {
	t.Parallel()
	process := peers.Postgres(t)
	r := newRig(t, &testServer{url: process.URL, process: process})
	require.NoError(t, r.db.Close(t.Context()))
	r.migrate()
	i, stop := r.start("stop_timeout=200ms")
	awaitWell(r, i)
	process.Stop()
	r.publish(telemetry("m1", `{}`))
	awaitProblem(r, i, "cannot be reached")
	requireEnds(t, stop, "ingest does not stop")
	// Its messages are redelivered immediately, not after the ack wait.
	process.Start()
	r.ingest()
	r.settled()
}

// pgx itself would wait for the database for 15 s after stop_timeout.
func testStopDoesNotWaitForSilentDatabase(t *testing.T) {
	t.Parallel()
	process := peers.Postgres(t)
	link := peers.Proxy(t, process.Addr)
	r := newRig(t, &testServer{url: strings.Replace(process.URL, process.Addr, link.Addr, 1), process: process})
	require.NoError(t, r.db.Close(t.Context()))
	i, stop := r.start("stop_timeout=200ms")
	r.publish(telemetry("m1", `{}`))
	r.settled()
	t.Cleanup(link.Mend) // before the clean-up that drops the database
	link.Impair(peers.Impairment{Hold: true}, peers.Impairment{Hold: true})
	r.publish(telemetry("m2", `{}`))
	r.eventually(func() bool { return i.Tables()[0].InHand == 1 }, func() any { return i.Tables() })
	requireEnds(t, stop, "the stop waits for the database")
}

func TestNATSOutage(t *testing.T) {
	t.Parallel()
	t.Run("own consumer is created again on reconnect", testOwnConsumerIsCreatedAgainOnReconnect)
	t.Run("ingest catches up after server is killed", testIngestCatchesUpAfterServerIsKilled)
	t.Run("permanently closed connection ends ingest", testPermanentlyClosedConnectionEndsIngest)
}

// The bridge does not manage this consumer, and it is missing when the server is reachable
// again.
func testOwnConsumerIsCreatedAgainOnReconnect(t *testing.T) {
	t.Parallel()
	r := newRig(t, sharedPostgres(t))
	link := peers.Proxy(t, r.js.Conn().ConnectedAddr())
	r.nats = "nats://" + link.Addr
	i := r.ingest("telemetry.consumer=own")
	awaitWell(r, i)
	link.Down()
	r.eventually(func() bool { ready, _ := i.Ready(); return !ready }, func() any { return "it is ready without a server" })
	require.NoError(t, r.js.DeleteConsumer(t.Context(), "TELEMETRY", "own"))
	r.publish(telemetry("m1", `{}`))
	link.Up()
	r.eventually(func() bool { return i.Tables()[0].Rows == 1 }, func() any { return i.Problems() })
	awaitWell(r, i)
}

// Messages whose acks were lost are redelivered, and change nothing.
func testIngestCatchesUpAfterServerIsKilled(t *testing.T) {
	t.Parallel()
	p := sharedPostgres(t)
	server := peers.NATSServer(t, peers.NATSOptions{})
	r := &rig{t: t}
	r.connect(server.URL)
	r.database = createDatabase(t, p.url)
	var err error
	r.db, err = pgx.Connect(t.Context(), r.database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.db.Close(context.Background()) })
	c, err := r.js.Consumer(t.Context(), "TELEMETRY", "ingest-workers")
	require.NoError(t, err)
	shorter := c.CachedInfo().Config
	shorter.AckWait = 2 * time.Second // messages in progress are redelivered after it
	_, err = r.js.UpdateConsumer(t.Context(), "TELEMETRY", shorter)
	require.NoError(t, err)
	i := r.ingest("batch.messages=50", "batch.flush=20ms")
	published := 0
	for range 3 {
		for range 500 {
			_, err := r.js.PublishAsync("tenant.acme.device.dev-1.telemetry", []byte(`{}`), natsjs.WithMsgID(fmt.Sprint("m", published)))
			require.NoError(t, err)
			published++
		}
		select {
		case <-r.js.PublishAsyncComplete():
		case <-time.After(testrun.Timeout):
			require.Fail(t, "not published")
		}
		server.Kill9()
		r.eventually(func() bool { ready, _ := i.Ready(); return !ready }, func() any { return "it is ready without a server" })
		server.Start()
		awaitWell(r, i)
	}
	r.settled()
	require.Equal(t, []string{"1500"}, r.query(`SELECT count(*)::text FROM telemetry`))
	require.Empty(t, r.quarantined())
}

// nats.go closes a connection for good on a line that the server finds too long, or on an
// error that it does not know. Under TLS nothing else detects that earlier.
func testPermanentlyClosedConnectionEndsIngest(t *testing.T) {
	t.Parallel()
	tls, ca := peers.NATSTLS(t)
	server := peers.NATSServer(t, peers.NATSOptions{Config: tls})
	r := &rig{t: t, nats: server.URL, database: "postgres://127.0.0.1:1/nobody"}
	i, stop := r.start("nats.tls.ca=" + ca)
	require.Eventually(t, i.nc.IsConnected, testrun.Timeout, 5*time.Millisecond)
	require.NoError(t, i.nc.Publish(strings.Repeat("x", 8<<10), nil))
	select {
	case err := <-i.Failed():
		require.ErrorContains(t, err, "closed permanently: nats: maximum control line exceeded")
	case <-time.After(testrun.Timeout):
		require.Fail(t, "ingest continues without a connection")
	}
	stop()
	require.Empty(t, i.Failed(), "a requested stop is not a failure")
}
