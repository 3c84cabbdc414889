package ingest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
)

// A report from the future must not stay the newest until its time comes, whether this or
// an earlier version stored it.
func aWrongClock(t *testing.T, r *rig) {
	i := r.ingest("batch.messages=3")
	at := func(second int) map[string]string {
		return map[string]string{"Bridge-Time": fmt.Sprintf("2026-01-01T00:00:%02dZ", second), "Nats-Msg-Id": fmt.Sprint("m", second)}
	}
	shadow, ack := "tenant.acme.device.d1.shadow.reported", "tenant.acme.device.d1.commands.ack"
	for n, ts := range []string{"4000000000", "0", `"2099-12-31T00:00:00Z"`, "1767225600000000000"} {
		r.publish(message{shadow, fmt.Sprintf(`{"ts":%s,"reported":{"fw":"1.%d"}}`, ts, n), at(n)})
	}
	r.publish(
		message{shadow, `{"reported":{"fw":"2.0"}}`, at(10)},
		message{ack, `{"id":1,"status":"accepted","ts":4000000000}`, at(11)},
		message{ack, `{"id":1,"status":"done"}`, at(12)},
		message{"tenant.acme.device.d1.telemetry", `{"ts":4000000000}`, at(13)},
	)
	r.settled()
	require.Equal(t, []string{`{"fw": "2.0"}`}, r.query(`SELECT reported::text FROM device_state`))
	require.Equal(t, []string{"done"}, r.query(`SELECT status FROM device_commands`))
	require.Equal(t, []string{"2026-01-01 00:00:13"}, r.query(`SELECT (time AT TIME ZONE 'UTC')::text FROM telemetry`))
	require.Empty(t, r.quarantined())
	var ignored []uint64
	for _, table := range i.Tables() {
		ignored = append(ignored, table.ClockIgnored)
	}
	require.Equal(t, []uint64{1, 3, 1}, ignored)
}

// An earlier version stored these times, from a clock in the future.
func futureIsDiscarded(t *testing.T, r *rig) {
	r.migrate()
	_, err := r.db.Exec(t.Context(), `
		INSERT INTO device_state VALUES
			('acme', 'd1', '{"fw":"1.0"}', 4000000000000000, '2026-01-01Z', '2026-01-01Z', 1), ('acme', 'd2', '{}', 7, '2026-01-01Z', '2026-01-01Z', 2);
		INSERT INTO device_commands VALUES ('acme', 'd1', 'c1', 'accepted', '{}', '2096-01-01Z', '2026-01-01Z', 1);
		DELETE FROM ingest_migrations WHERE version_id = 3`)
	require.NoError(t, err)
	r.migrate()
	require.Equal(t, []string{"1767225600000000", "7"}, r.query(`SELECT version::text FROM device_state ORDER BY device_id`))
	require.Equal(t, []string{"2026-01-01 00:00:00"}, r.query(`SELECT (acknowledged_at AT TIME ZONE 'UTC')::text FROM device_commands`))
}

// Each element becomes one row, and the message is still counted once.
func arraysAreSplit(t *testing.T, r *rig) {
	r.ingest("telemetry.payload=split")
	r.publish(
		telemetry("list", `[{"t":1,"ts":1700000000},{"t":2,"ts":1700000001},3]`),
		telemetry("value", "21.5"), telemetry("text", "ON\x00"), telemetry("none", "[]"),
		telemetry("bom", "\xef\xbb\xbf{\"a\":1}"), telemetry("bad", `[{"a":1},{"ts":true}]`),
	)
	r.settled()
	want := []string{
		`bom {"a": 1}`, `list/0 {"t": 1, "ts": 1700000000}`, `list/1 {"t": 2, "ts": 1700000001}`, `list/2 {"value": 3}`,
		`text {"value": "ON"}`, `value {"value": 21.5}`,
	}
	rows := func() []string {
		return r.query(`SELECT concat_ws(' ', msg_id, payload) FROM telemetry ORDER BY msg_id`)
	}
	require.Equal(t, want, rows())
	require.Len(t, r.quarantined(), 1)
	r.replay()
	r.settled()
	require.Equal(t, want, rows(), "the same messages again")
}

// A trigger drops rows without an error. A row that is not in the table is not
// acknowledged as stored.
func rowsDroppedByATrigger(t *testing.T, r *rig) {
	r.migrate()
	_, err := r.db.Exec(t.Context(), `
		CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN IF NEW.msg_id LIKE 'odd%' THEN RETURN NULL; END IF; RETURN NEW; END $$;
		CREATE TRIGGER swallow BEFORE INSERT ON telemetry FOR EACH ROW EXECUTE FUNCTION swallow();
		CREATE RULE vanish AS ON INSERT TO device_commands DO INSTEAD NOTHING`)
	require.NoError(t, err)
	for n := range 40 {
		r.publish(telemetry(fmt.Sprint("m", n), `{}`))
	}
	r.publish(telemetry("odd", `{}`), telemetry("m1", `{}`), message{"tenant.acme.device.d1.commands.ack", `{"id":1}`, nil})
	i := r.ingest()
	r.eventually(func() bool { return len(i.Warnings()) == 1 && len(i.Problems()) == 1 }, func() any { return i.Tables() })
	require.Contains(t, i.Warnings()[0].Problem, "rows are missing from the table")
	require.Contains(t, i.Problems()[0].Problem, "rows of device_commands fail")
	r.eventually(func() bool { return i.Tables()[0].Acknowledged == 40 }, func() any { return i.Tables() })
	_, err = r.db.Exec(t.Context(), `DROP TRIGGER swallow ON telemetry; DROP RULE vanish ON device_commands`)
	require.NoError(t, err)
	r.settled()
	require.Equal(t, []string{"41"}, r.query(`SELECT count(*)::text FROM telemetry`))
	require.Equal(t, []string{"1"}, r.query(`SELECT command_id FROM device_commands`))
	awaitWell(r, i)
}

// Without a policy no row is accepted, although the grants are correct.
func rowLevelSecurity(t *testing.T, r *rig) {
	r.migrate()
	user := fmt.Sprint("ingest_rls_", time.Now().UnixNano())
	_, err := r.db.Exec(t.Context(), `CREATE ROLE `+user+` LOGIN;
		GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO `+user+`;
		ALTER TABLE telemetry ENABLE ROW LEVEL SECURITY;
		CREATE POLICY see ON telemetry FOR SELECT USING (true)`)
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = r.db.Exec(context.Background(), `DROP OWNED BY `+user+`; DROP ROLE `+user) })
	conf, err := pgx.ParseConfig(r.database)
	require.NoError(t, err)
	i := r.ingest("database.migrate=false", fmt.Sprintf("database.url=postgres://%s@%s:%d/%s", user, conf.Host, conf.Port, conf.Database))
	r.publish(telemetry("m1", `{}`), telemetry("m2", `{}`))
	awaitProblem(r, i, "row-level security", "CREATE POLICY")
	requireUnacknowledged(r, 2)
	_, err = r.db.Exec(t.Context(), `CREATE POLICY write ON telemetry FOR INSERT WITH CHECK (true)`)
	require.NoError(t, err)
	r.settled()
	awaitWell(r, i)
	require.Equal(t, []string{"2"}, r.query(`SELECT count(*)::text FROM telemetry`))
}

// A lock may outlast all deliveries of a message; its row is still not at fault.
func TestDatabaseLocked(t *testing.T) {
	t.Parallel()
	r := newRig(t, sharedPostgres(t))
	r.migrate()
	tx, err := r.db.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE telemetry IN SHARE MODE")
	require.NoError(t, err)
	r.publish(telemetry("m1", `{}`))
	i := r.ingest("database.timeout=1s", "max_deliveries=1")
	awaitProblem(r, i, "55P03", "pg_locks")
	r.eventually(func() bool { return i.Tables()[0].Failures > 3 }, func() any { return i.Tables() })
	require.NoError(t, tx.Rollback(t.Context()))
	r.settled()
	require.Empty(t, r.quarantined())
	require.Equal(t, []string{"1"}, r.query(`SELECT count(*)::text FROM telemetry`))
}

// ingest leaves a primary that became read-only for one that is writable.
func TestDatabaseSwitchover(t *testing.T) {
	t.Parallel()
	first, second := peers.Postgres(t, "fsync=off"), peers.Postgres(t, "fsync=off")
	r := newRig(t, &testServer{url: first.URL, process: first})
	r.migrate()
	conf, err := pgx.ParseConfig(r.database)
	require.NoError(t, err)
	admin, err := pgx.Connect(t.Context(), second.URL)
	require.NoError(t, err)
	_, err = admin.Exec(t.Context(), "CREATE DATABASE "+conf.Database)
	require.NoError(t, err)
	require.NoError(t, admin.Close(t.Context()))
	other := &rig{t: t, database: strings.Replace(r.database, first.Addr, second.Addr, 1)}
	other.db, err = pgx.Connect(t.Context(), other.database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = other.db.Close(context.Background()) })
	other.migrate()

	i := r.ingest(fmt.Sprintf("database.url=postgres://postgres@%s,%s/%s?target_session_attrs=read-write", first.Addr, second.Addr, conf.Database))
	r.publish(telemetry("m1", `{}`))
	r.settled()
	require.Equal(t, []string{"1"}, r.query(`SELECT count(*)::text FROM telemetry`))
	// As a demoted primary does, it becomes read-only under its connections.
	for _, sql := range []string{"ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"} {
		_, err = r.db.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	r.eventually(func() bool { return r.query("SHOW default_transaction_read_only")[0] == "on" }, func() any { return "it is not read-only" })
	for n := range 5 {
		r.publish(telemetry(fmt.Sprint("after", n), `{}`))
	}
	r.settled()
	require.Equal(t, []string{"5"}, other.query(`SELECT count(*)::text FROM telemetry`))
	awaitWell(r, i)
	_, err = r.db.Exec(t.Context(), "SET default_transaction_read_only = off; ALTER SYSTEM RESET default_transaction_read_only")
	_ = err // only so that the database can be dropped
}

// The file is read at each connect.
func TestDatabasePasswordRotated(t *testing.T) {
	t.Parallel()
	process := peers.Postgres(t, "fsync=off")
	r := newRig(t, &testServer{url: process.URL, process: process})
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("old\n"), 0o600))
	_, err := r.db.Exec(t.Context(), `CREATE ROLE rotating LOGIN SUPERUSER PASSWORD 'old'`)
	require.NoError(t, err)
	hba := r.query(`SHOW hba_file`)[0]
	_, err = r.db.Exec(t.Context(), `COPY (SELECT unnest(ARRAY['host all rotating 127.0.0.1/32 scram-sha-256', 'host all all 127.0.0.1/32 trust'])) TO '`+hba+`'`)
	require.NoError(t, err)
	_, err = r.db.Exec(t.Context(), `SELECT pg_reload_conf()`)
	require.NoError(t, err)
	conf, err := pgx.ParseConfig(r.database)
	require.NoError(t, err)
	i := r.ingest("database.password_file="+file, fmt.Sprintf("database.url=postgres://rotating@%s/%s", process.Addr, conf.Database))
	r.publish(telemetry("m1", `{}`))
	r.settled()
	_, err = r.db.Exec(t.Context(), `ALTER ROLE rotating PASSWORD 'new'`)
	require.NoError(t, err)
	_, err = r.db.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotating'`)
	require.NoError(t, err)
	r.publish(telemetry("m2", `{}`))
	awaitProblem(r, i, "password")
	require.NoError(t, os.WriteFile(file, []byte("new\n"), 0o600))
	r.settled()
	awaitWell(r, i)
}
