package operation

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/reconcile"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/streams"
)

// consumers returns the bridge's consumers that ingest pulls from.
func consumers() map[string]string {
	return map[string]string{"TELEMETRY": "ingest-workers", "SHADOW": "ingest-shadow", "COMMANDS": "ingest-commands"}
}

// Whichever process is killed, every message that mosquitto acknowledged is in the table once.
// A full replay changes nothing. Each device's state is the newest.
func TestIngestExactlyOnce(t *testing.T) {
	t.Parallel()
	messages, states, devices, kills := 200_000, 20_000, 1000, 5
	ackWait := streams.DefaultAckWait
	if testrun.Quick() {
		messages, states, devices, kills, ackWait = 20_000, 4000, 100, 2, 2*time.Second
	}
	random := proof.Random(t)
	database := peers.Postgres(t)
	r := proof.NewRig(t, proof.RigOptions{})
	shortenAckWait(t, r.JS, ackWait)
	ingest := peers.Ingest(t, []string{
		"DATABASE_URL=" + database.URL, "NATS_URL=" + r.NATS.URL, "INGEST_ADMIN_LISTEN=", "INGEST_LOG_FORMAT=json",
	})
	telemetry := proof.StartLoad(t, proof.LoadOptions{Addr: r.Broker.Addr, Devices: devices, Total: messages, JSON: true})
	shadows := proof.StartLoad(t, proof.LoadOptions{Addr: r.Broker.Addr, Devices: devices, Total: states, Topic: "shadow/reported", JSON: true})

	// The load is split into one part per fault, each at a random time of its part. The middle
	// fault restarts the database; one more kill follows during the replay.
	for leg := range kills {
		from, to := leg*messages/kills, (leg+1)*messages/kills
		telemetry.Release(to)
		shadows.Release((leg + 1) * states / kills)
		require.True(t, telemetry.Await(from+random.IntN((to-from)/2)))
		time.Sleep(time.Duration(random.IntN(int(200 * time.Millisecond)))) // a random moment
		if leg == kills/2 {
			database.Restart()
			continue
		}
		ingest.Kill9()
		ingest.Start()
	}
	telemetry.AwaitEnd(t)
	shadows.AwaitEnd(t)
	proof.Mark(t, r.Broker.Addr)
	proof.AwaitMarker(t, r.JS)
	awaitConsumed(t, r.JS)
	db := newTables(t, database.URL)
	v := db.reconcile(telemetry)
	t.Logf("first time: %v", v)
	require.True(t, v.Clean(), v)
	db.requireNewest(shadows)

	rewind(t, r.JS, ackWait)
	time.Sleep(time.Duration(random.IntN(int(time.Second))))
	ingest.Kill9()
	ingest.Start()
	awaitConsumed(t, r.JS)
	v = db.reconcile(telemetry)
	t.Logf("after a replay of everything: %v", v)
	require.True(t, v.Clean(), v)
	db.requireNewest(shadows)

	// The marker is not JSON, so it is in quarantine and not in the table.
	proof.AwaitMessage(t, r.JS, "QUARANTINE", "quarantine.bad_payload."+proof.MarkerSubject)
	require.Zero(t, ingest.Stop(), "exit code")
	require.Zero(t, r.Bridge.Stop(), "exit code")
}

// shortenAckWait shortens ack_wait, after which the messages in progress at a killed ingest are
// redelivered.
func shortenAckWait(t *testing.T, js natsjs.JetStream, wait time.Duration) {
	t.Helper()
	for stream, name := range consumers() {
		proof.Eventually(t, func() bool {
			c, err := js.Consumer(t.Context(), stream, name)
			if err != nil {
				return false
			}
			cfg := c.CachedInfo().Config
			cfg.AckWait = wait
			_, err = js.UpdateConsumer(t.Context(), stream, cfg)
			return err == nil
		}, func() any { return name })
	}
}

// rewind restarts every consumer at the first message, as in docs/replay.md.
func rewind(t *testing.T, js natsjs.JetStream, ackWait time.Duration) {
	t.Helper()
	for stream, name := range consumers() {
		require.NoError(t, js.DeleteConsumer(t.Context(), stream, name))
		_, err := streams.Manage(t.Context(), js, streams.ManageCreate, nil, []streams.ConsumerSpec{{Stream: stream, Name: name, AckWait: ackWait}})
		require.NoError(t, err)
	}
}

// awaitConsumed waits until every message in the streams is acknowledged. The timeout restarts
// on progress.
func awaitConsumed(t *testing.T, js natsjs.JetStream) {
	t.Helper()
	progress, last := time.Now(), uint64(0)
	for {
		left, floors := uint64(0), uint64(0)
		for stream, name := range consumers() {
			s, err := js.Stream(t.Context(), stream)
			require.NoError(t, err)
			c, err := s.Consumer(t.Context(), name)
			require.NoError(t, err)
			info := c.CachedInfo()
			// A consumer sees new messages with a delay.
			left += info.NumPending + uint64(info.NumAckPending) + s.CachedInfo().State.LastSeq - info.Delivered.Stream
			floors += info.AckFloor.Stream + info.Delivered.Consumer
		}
		if left == 0 {
			return
		}
		if floors != last {
			progress, last = time.Now(), floors
		}
		if time.Since(progress) > 2*testrun.Timeout {
			require.FailNow(t, "the consumers stand still", "%d messages are not acknowledged", left)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// tables reads the tables that ingest wrote.
type tables struct {
	t  *testing.T
	db *pgx.Conn
}

func newTables(t *testing.T, url string) *tables {
	t.Helper()
	db, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close(t.Context()) })
	return &tables{t, db}
}

// reconcile compares the table telemetry with the publisher's records.
func (d *tables) reconcile(l *proof.Load) proof.Verdict {
	d.t.Helper()
	rows, err := d.db.Query(d.t.Context(), `SELECT (payload->>'version')::bigint, tenant_id, device_id FROM telemetry ORDER BY stream_seq`)
	require.NoError(d.t, err)
	var all []proof.Stored
	var number uint64
	var tenant, name string
	_, err = pgx.ForEachRow(rows, []any{&number, &tenant, &name}, func() error {
		all = append(all, proof.Stored{Message: number, Copy: reconcile.Copy{Subject: "tenant." + tenant + ".device." + name + ".telemetry"}})
		return nil
	})
	require.NoError(d.t, err)
	return l.Reconcile(all)
}

// requireNewest requires that each device's state is that of its last acknowledged message, or
// of a later one without a PUBACK.
func (d *tables) requireNewest(l *proof.Load) {
	d.t.Helper()
	rows, err := d.db.Query(d.t.Context(), `SELECT device_id, version, (reported->>'n')::bigint FROM device_state`)
	require.NoError(d.t, err)
	newest := map[string]int64{}
	var name string
	var version, n int64
	_, err = pgx.ForEachRow(rows, []any{&name, &version, &n}, func() error {
		require.Equal(d.t, version, n, name)
		newest[name] = version
		return nil
	})
	require.NoError(d.t, err)
	require.Len(d.t, newest, l.Devices)
	for i := range l.Total {
		if _, name := proof.Device(i % l.Devices); l.HasAck(i) {
			require.GreaterOrEqual(d.t, newest[name], int64(i), name)
		}
	}
}
