package registry

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/certificates"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/peers"
)

const table = `CREATE TABLE device_certificates (
	tenant_id  text NOT NULL,
	device_id  text NOT NULL,
	status     text NOT NULL,
	not_after  timestamptz,
	PRIMARY KEY (tenant_id, device_id)
)`

// trigger is the trigger of docs/registry.md.
const trigger = `
CREATE FUNCTION notify_device_certificates() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP = 'TRUNCATE' THEN
		PERFORM pg_notify('device_certificates', '');
	ELSIF TG_OP = 'DELETE' THEN
		PERFORM pg_notify('device_certificates', OLD.tenant_id || '/' || OLD.device_id);
	ELSE
		PERFORM pg_notify('device_certificates', NEW.tenant_id || '/' || NEW.device_id);
		IF TG_OP = 'UPDATE' AND (OLD.tenant_id, OLD.device_id) <> (NEW.tenant_id, NEW.device_id) THEN
			PERFORM pg_notify('device_certificates', OLD.tenant_id || '/' || OLD.device_id);
		END IF;
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER notify_changes AFTER INSERT OR UPDATE OR DELETE ON device_certificates
	FOR EACH ROW EXECUTE FUNCTION notify_device_certificates();
CREATE TRIGGER notify_truncate AFTER TRUNCATE ON device_certificates
	FOR EACH STATEMENT EXECUTE FUNCTION notify_device_certificates();`

// database is a PostgreSQL and a connection to it.
type database struct {
	*peers.PostgresProcess
	t *testing.T
}

func newDatabase(t *testing.T, statements ...string) *database {
	t.Helper()
	d := &database{peers.Postgres(t, "fsync=off"), t}
	d.exec(statements...)
	return d
}

func (d *database) exec(statements ...string) {
	d.t.Helper()
	db, err := pgx.Connect(d.t.Context(), d.URL)
	require.NoError(d.t, err)
	defer db.Close(d.t.Context())
	for _, s := range statements {
		_, err = db.Exec(d.t.Context(), s)
		require.NoError(d.t, err, s)
	}
}

func (d *database) follow(refresh time.Duration) (*Postgres, *certificates.Live) {
	d.t.Helper()
	return d.followAt(d.URL, refresh)
}

func (d *database) followAt(url string, refresh time.Duration) (*Postgres, *certificates.Live) {
	d.t.Helper()
	c := certificates.New()
	p, err := NewPostgres(PostgresOptions{URL: url, Refresh: refresh, Certificates: c, Log: quiet()})
	require.NoError(d.t, err)
	under(d.t, p)
	return p, c
}

func insert(tenant, device, status, notAfter string) string {
	return fmt.Sprintf(`INSERT INTO device_certificates VALUES ('%s', '%s', '%s', %s)`, tenant, device, status, notAfter)
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	t.Run("table and notifications are read", testTableAndNotificationsAreRead)
	t.Run("silent connection loss makes state stale", testSilentConnectionLossMakesStateStale)
	t.Run("row without tenant or device is skipped", testRowWithoutTenantOrDeviceIsSkipped)
	t.Run("LATIN1 database has the same device ids", testLATIN1DatabaseHasTheSameDeviceIds)
	t.Run("table without notifications is polled", testTableWithoutNotificationsIsPolled)
	t.Run("last known state is used during outage", testLastKnownStateIsUsedDuringOutage)
	t.Run("database problems are reported", testDatabaseProblemsAreReported)
}

func testTableAndNotificationsAreRead(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, table, trigger,
		insert("acme", "dev-1", "ACTIVE", "NULL"), insert("acme", "dev-2", "active", "'2027-01-31T00:00:00Z'"),
		insert("acme", "dev-3", "ACTIVE", "'infinity'"), insert("acme", "dev-4", "ACTIVE", "'-infinity'"),
		insert("acme", "dev-5", "SUSPENDED", "NULL"))
	// The interval is so long that only a notification can bring a change.
	p, c := d.follow(24 * time.Hour)
	<-p.Loaded()
	require.Equal(t, 5, p.State().Entries)
	for name, want := range map[string]certificates.Certificate{
		"acme/dev-1": active(0), "acme/dev-2": active(1801353600000), "acme/dev-3": active(0), "acme/dev-4": active(1),
		"acme/dev-5": {Status: "SUSPENDED"},
	} {
		got, ok := c.Certificate([]byte(name))
		require.True(t, ok)
		require.Equal(t, want, got, name)
	}
	d.exec(`UPDATE device_certificates SET status = 'REVOKED' WHERE device_id = 'dev-1'`)
	t.Logf("a revocation is in force after %s", is(t, p, c, "acme/dev-1", certificates.Certificate{Status: "REVOKED"}, true))
	d.exec(insert("größe", "a.b", "ACTIVE", "NULL"))
	is(t, p, c, "größe/a.b", active(0), true)
	d.exec(`DELETE FROM device_certificates WHERE device_id = 'dev-2'`)
	is(t, p, c, "acme/dev-2", certificates.Certificate{}, false)
	d.exec(`UPDATE device_certificates SET device_id = 'dev-9' WHERE device_id = 'dev-3'`)
	is(t, p, c, "acme/dev-9", active(0), true)
	is(t, p, c, "acme/dev-3", certificates.Certificate{}, false)
	// There are more in one batch than are read one by one.
	d.exec(`INSERT INTO device_certificates SELECT 'many', i::text, 'ACTIVE', NULL FROM generate_series(1, 5000) i`)
	eventually(t, "5,000 more", p, func(s State) bool { return s.Entries == 5005 })
	d.exec(`TRUNCATE device_certificates`)
	eventually(t, "none", p, func(s State) bool { return s.Entries == 0 })
}

// A firewall drops an idle connection silently. Until that is noticed, no revocation arrives, and
// the state must not pass for a fresh one.
func testSilentConnectionLossMakesStateStale(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, table, trigger, insert("acme", "dev-1", "ACTIVE", "NULL"))
	link := peers.Proxy(t, d.Addr)
	c := certificates.New()
	p, err := NewPostgres(PostgresOptions{
		URL: strings.Replace(d.URL, d.Addr, link.Addr, 1), Refresh: time.Second, Certificates: c, Log: quiet(),
	})
	require.NoError(t, err)
	under(t, p)
	<-p.Loaded()
	link.Impair(peers.Impairment{Vanish: true}, peers.Impairment{Vanish: true})
	d.exec(`UPDATE device_certificates SET status = 'REVOKED'`)
	eventually(t, "stale", p, State.Stale)
	link.Mend()
	is(t, p, c, "acme/dev-1", certificates.Certificate{Status: "REVOKED"}, true)
}

// A view may have rows without a name, for instance from an outer join. They must not prevent other
// rows, including revocations, from being read.
func testRowWithoutTenantOrDeviceIsSkipped(t *testing.T) {
	t.Parallel()
	d := newDatabase(t,
		`CREATE TABLE devices (tenant text, device text, status text)`,
		`CREATE VIEW device_certificates AS SELECT tenant tenant_id, device device_id, status, NULL::timestamptz not_after FROM devices`,
		`INSERT INTO devices VALUES ('acme', 'dev-1', 'ACTIVE')`)
	p, c := d.follow(50 * time.Millisecond)
	<-p.Loaded()
	is(t, p, c, "acme/dev-1", active(0), true)
	d.exec(`INSERT INTO devices VALUES ('acme', NULL, 'ACTIVE'), (NULL, 'dev-2', 'ACTIVE')`,
		`UPDATE devices SET status = 'REVOKED' WHERE device = 'dev-1'`)
	is(t, p, c, "acme/dev-1", certificates.Certificate{Status: "REVOKED"}, true)
	require.Equal(t, 1, p.State().Entries)
	require.False(t, p.State().Stale())
}

func testLATIN1DatabaseHasTheSameDeviceIds(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, `CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'`)
	url := strings.Replace(d.URL, "/postgres?", "/latin?", 1)
	require.NotEqual(t, d.URL, url)
	db, err := pgx.Connect(t.Context(), url+"&client_encoding=UTF8")
	require.NoError(t, err)
	defer db.Close(t.Context())
	for _, s := range []string{table, trigger, insert("acmé", "dev-1", "REVOKED", "NULL")} {
		_, err := db.Exec(t.Context(), s)
		require.NoError(t, err)
	}
	p, c := d.followAt(url, 24*time.Hour)
	<-p.Loaded()
	is(t, p, c, "acmé/dev-1", certificates.Certificate{Status: "REVOKED"}, true)
	_, err = db.Exec(t.Context(), insert("acmé", "dev-2", "REVOKED", "NULL"))
	require.NoError(t, err)
	is(t, p, c, "acmé/dev-2", certificates.Certificate{Status: "REVOKED"}, true)
}

// The URL is read at each connect. An error in it is reported and does not end the source.
func TestDatabasePasswordRotated(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, table, insert("acme", "dev-1", "ACTIVE", "NULL"),
		`CREATE ROLE rotating LOGIN SUPERUSER PASSWORD 'old'`)
	db, err := pgx.Connect(t.Context(), d.URL)
	require.NoError(t, err)
	defer db.Close(t.Context())
	var hba string
	require.NoError(t, db.QueryRow(t.Context(), `SHOW hba_file`).Scan(&hba))
	d.exec(`COPY (SELECT unnest(ARRAY['host all rotating 127.0.0.1/32 scram-sha-256', 'host all all 127.0.0.1/32 trust'])) TO '`+hba+`'`,
		`SELECT pg_reload_conf()`)
	url := func(password string) string {
		return strings.Replace(d.URL, "postgres@", "rotating:"+password+"@", 1)
	}
	file := filepath.Join(t.TempDir(), "database")
	require.NoError(t, os.WriteFile(file, []byte(url("old")+"\n"), 0o600))
	c := certificates.New()
	p, err := NewPostgres(PostgresOptions{
		URL: url("old"), Current: config.Registry{DatabaseURLFile: file}.CurrentDatabaseURL,
		Refresh: 50 * time.Millisecond, Certificates: c, Log: quiet(),
	})
	require.NoError(t, err)
	under(t, p)
	eventually(t, "read", p, func(s State) bool { return !s.Stale() })
	d.exec(`ALTER ROLE rotating PASSWORD 'new'`,
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotating'`)
	eventually(t, "refused", p, func(s State) bool { return strings.Contains(s.Problem, "password authentication failed") })
	require.NoError(t, os.Remove(file))
	eventually(t, "without its file", p, func(s State) bool { return strings.Contains(s.Problem, "database_url_file") })
	require.NoError(t, os.WriteFile(file, []byte(url("new")+"\n"), 0o600))
	eventually(t, "read again", p, func(s State) bool { return !s.Stale() })
}

func testTableWithoutNotificationsIsPolled(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, table, insert("acme", "dev-1", "ACTIVE", "NULL"))
	p, c := d.follow(50 * time.Millisecond)
	<-p.Loaded()
	first := p.State().LoadedAt
	d.exec(`UPDATE device_certificates SET status = 'REVOKED'`)
	is(t, p, c, "acme/dev-1", certificates.Certificate{Status: "REVOKED"}, true)
	d.exec(`DELETE FROM device_certificates`)
	is(t, p, c, "acme/dev-1", certificates.Certificate{}, false)
	require.True(t, p.State().LoadedAt.After(first))
	require.False(t, p.State().Stale())
}

func testLastKnownStateIsUsedDuringOutage(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, table, trigger, insert("acme", "dev-1", "ACTIVE", "NULL"))
	p, c := d.follow(24 * time.Hour)
	<-p.Loaded()
	d.Stop()
	state := eventually(t, "stale", p, State.Stale)
	require.NotEmpty(t, state.Problem)
	require.Equal(t, 1, state.Entries)
	is(t, p, c, "acme/dev-1", active(0), true)
	d.Start()
	eventually(t, "up to date", p, func(s State) bool { return !s.Stale() && s.Problem == "" })
	d.exec(`UPDATE device_certificates SET status = 'REVOKED'`)
	is(t, p, c, "acme/dev-1", certificates.Certificate{Status: "REVOKED"}, true)
	d.Kill9()
	eventually(t, "stale again", p, State.Stale)
}

func testDatabaseProblemsAreReported(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, "CREATE USER other", "CREATE USER locked")
	p, c := d.follow(time.Minute)
	state := eventually(t, "no table", p, func(s State) bool { return s.Advice == "create the table, see docs/registry.md" })
	require.Contains(t, state.Problem, `relation "device_certificates" does not exist`)
	require.False(t, loaded(p))
	d.exec(`CREATE TABLE device_certificates (tenant_id int, device_id uuid, status text)`)
	eventually(t, "no column", p, func(s State) bool {
		return s.Advice == "the table needs the columns tenant_id, device_id, status and not_after, see docs/registry.md"
	})
	// Types other than text work too.
	d.exec(`ALTER TABLE device_certificates ADD COLUMN not_after timestamp`,
		`INSERT INTO device_certificates VALUES (17, 'f47ac10b-58cc-4372-a567-0e02b2c3d479', NULL, '2027-01-31'),
			(18, 'f47ac10b-58cc-4372-a567-0e02b2c3d479', 'ACTIVE', '2027-01-31')`)
	<-p.Loaded()
	is(t, p, c, "18/f47ac10b-58cc-4372-a567-0e02b2c3d479", active(1801353600000), true)
	is(t, p, c, "17/f47ac10b-58cc-4372-a567-0e02b2c3d479", certificates.Certificate{Status: "without a status", NotAfter: 1801353600000}, true)

	o := PostgresOptions{Refresh: time.Minute, Certificates: certificates.New(), Log: quiet()}
	o.URL = "postgres://other@" + d.Addr + "/postgres?sslmode=disable"
	denied, err := NewPostgres(o)
	require.NoError(t, err)
	under(t, denied)
	eventually(t, "denied", denied, func(s State) bool {
		return s.Advice == "GRANT SELECT ON device_certificates to the user of identity.registry.database_url"
	})
	o.URL = "postgres://other@" + d.Addr + "/nothing?sslmode=disable"
	nowhere, err := NewPostgres(o)
	require.NoError(t, err)
	under(t, nowhere)
	eventually(t, "no such database", nowhere, func(s State) bool {
		return s.Advice == "check the database name in identity.registry.database_url"
	})
	_, err = NewPostgres(PostgresOptions{URL: "postgres://bridge:hunter2@h:port/db"})
	require.ErrorContains(t, err, "is not a database URL")
	require.NotContains(t, err.Error(), "hunter2")
}
