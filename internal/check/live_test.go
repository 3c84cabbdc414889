package check

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/jetstream/embedded"
)

func TestBuckets(t *testing.T) {
	t.Parallel()
	s := startNATSFile(t, `publish: { allow: ["tenant.>", "quarantine.>", "$JS.API.INFO", "$JS.API.STREAM.*.*", "$JS.API.CONSUMER.INFO.>", "$JS.FC.>", "$JS.API.CONSUMER.DELETE.>"] }, subscribe: { allow: ["_INBOX.bridge.>"] }`)
	env := []string{"NATS_URL=" + s.URL(), "BRIDGE_NATS_USER=bridge", "BRIDGE_NATS_PASSWORD=bridge", "BRIDGE_NATS_INBOX_PREFIX=_INBOX.bridge", "BRIDGE_IDENTITY_REGISTRY_KIND=kv"}
	js := openJetStream(t, s.URL(), nats.UserInfo("admin", "admin"))
	apply(t, js)
	out, r := checkNATS(t, env...)
	require.Equal(t, 1, r.Failed(), out)
	require.Contains(t, out, "note  bucket BRIDGE_LIMITS: does not exist; the configured limits apply to all. To set other limits: nats kv add BRIDGE_LIMITS\n")
	require.Contains(t, out, "FAIL  bucket BRIDGE_CERTS: does not exist, and without the registry no message is taken: nats kv add BRIDGE_CERTS\n")

	for _, name := range []string{"BRIDGE_LIMITS", "BRIDGE_CERTS"} {
		kv, err := js.CreateKeyValue(t.Context(), natsjs.KeyValueConfig{Bucket: name})
		require.NoError(t, err)
		_, err = kv.PutString(t.Context(), "a", "b")
		require.NoError(t, err)
	}
	out, r = checkNATS(t, env...)
	require.Equal(t, 1, r.Failed(), out)
	require.Contains(t, out, `note  bucket BRIDGE_LIMITS: may not be followed: the NATS user may not publish to $JS.API.CONSUMER.CREATE.KV_BRIDGE_LIMITS.`)
	require.Contains(t, out, `FAIL  bucket BRIDGE_CERTS: may not be followed`)

	out, r = checkNATS(t, append(env, "BRIDGE_NATS_USER=admin", "BRIDGE_NATS_PASSWORD=admin", "BRIDGE_NATS_INBOX_PREFIX=_INBOX")[0],
		"BRIDGE_NATS_USER=admin", "BRIDGE_NATS_PASSWORD=admin", "BRIDGE_IDENTITY_REGISTRY_KIND=kv")
	require.Zero(t, r.Failed(), out)
	require.Contains(t, out, "ok    bucket BRIDGE_LIMITS: 1 keys, may be followed")
	require.Contains(t, out, "ok    bucket BRIDGE_CERTS: 1 keys, may be followed")
	stream, err := js.Stream(t.Context(), "KV_BRIDGE_CERTS")
	require.NoError(t, err)
	require.Zero(t, stream.CachedInfo().State.Consumers, "the probe made none")
}

func TestCertificateTable(t *testing.T) {
	t.Parallel()
	db := peers.Postgres(t, "fsync=off")
	look := func() (string, *Report) {
		c, _ := load(t, "BRIDGE_IDENTITY_REGISTRY_KIND=postgres", "BRIDGE_IDENTITY_REGISTRY_DATABASE_URL="+db.URL)
		var out bytes.Buffer
		r := NewReport(&out)
		Registry(context.Background(), c, r)
		return out.String(), r
	}
	exec := func(sql string) {
		conn, err := pgx.Connect(t.Context(), db.URL)
		require.NoError(t, err)
		defer conn.Close(t.Context())
		_, err = conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	out, r := look()
	require.Equal(t, 1, r.Failed(), out)
	require.Contains(t, out, `relation "device_certificates" does not exist (SQLSTATE 42P01): create the table, see docs/registry.md`)
	exec(`CREATE TABLE device_certificates (tenant_id text, device_id text, status text)`)
	out, r = look()
	require.Equal(t, 1, r.Failed(), out)
	require.Contains(t, out, "the table needs the columns tenant_id, device_id, status and not_after")
	exec(`ALTER TABLE device_certificates ADD COLUMN not_after timestamptz`)
	out, r = look()
	require.Zero(t, r.Failed(), out)
	require.Contains(t, out, "ok    registry: device_certificates can be read, plain text\n")
	require.Contains(t, out, "note  registry: no trigger on device_certificates notifies: changes come with the next refresh, every 30s")
	db.Stop()
	out, r = look()
	require.Equal(t, 1, r.Failed(), out)
	require.Contains(t, out, "make sure that PostgreSQL is running at the host and port of identity.registry.database_url")
}

// The probes go to the API of nats.domain, so its subjects need permissions.
func TestDomain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "nats.conf")
	require.NoError(t, os.WriteFile(file, []byte(`authorization { users: [
		{ user: admin, password: admin }
		{ user: bridge, password: bridge, permissions: { publish: { deny: ["$JS.API.>"] } } }
	] }`), 0o600))
	s, err := embedded.Open(embedded.Options{StoreDir: t.TempDir(), Port: -1, ConfigFile: file, Domain: "hub"})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	js := openJetStream(t, s.URL(), nats.UserInfo("admin", "admin"))
	for _, name := range []string{"BRIDGE_LIMITS", "BRIDGE_LANES"} {
		_, err := js.CreateKeyValue(t.Context(), natsjs.KeyValueConfig{Bucket: name, TTL: 10 * time.Second})
		require.NoError(t, err)
	}
	check := func(user string) (string, *Report) {
		return checkNATS(t, "NATS_URL="+s.URL(), "BRIDGE_NATS_USER="+user, "BRIDGE_NATS_PASSWORD="+user, "BRIDGE_NATS_DOMAIN=hub", "BRIDGE_LANES_PARTITIONS=auto")
	}
	out, r := check("admin")
	require.Zero(t, r.Failed(), out)
	require.Contains(t, out, "ok    bucket BRIDGE_LIMITS")
	require.Contains(t, out, "ok    leases: ")
	out, _ = check("bridge")
	for _, subject := range []string{"$JS.hub.API.STREAM.MSG.GET.TELEMETRY", "$JS.hub.API.STREAM.INFO.KV_BRIDGE_LIMITS", "$JS.hub.API.STREAM.INFO.KV_BRIDGE_LANES"} {
		require.Contains(t, out, " to "+subject)
	}
}
