package operation

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/jackc/pgx/v5"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
)

func newBucket(t testing.TB, js natsjs.JetStream, name string) natsjs.KeyValue {
	t.Helper()
	kv, err := js.CreateKeyValue(t.Context(), natsjs.KeyValueConfig{Bucket: name})
	require.NoError(t, err)
	return kv
}

func putKey(t testing.TB, kv natsjs.KeyValue, key, value string) {
	t.Helper()
	_, err := kv.PutString(t.Context(), key, value)
	require.NoError(t, err)
}

// liveRig is an attesting broker, a real nats-server, the bridge, and devices of the tenant
// acme that publish continuously.
type liveRig struct {
	t      *testing.T
	nats   *peers.NATSProcess
	js     natsjs.JetStream
	bridge *daemon.Bridge
	broker *broker.Broker
}

func newLiveRig(t *testing.T, prepare func(*liveRig) proof.Settings) *liveRig {
	t.Helper()
	r := &liveRig{t: t, nats: peers.NATSServer(t, peers.NATSOptions{})}
	r.js = proof.ConnectNATS(t, r.nats.URL)
	b, addr := proof.StartBroker(t, broker.Options{Username: "bridge", Password: proof.BridgePassword, Attest: true, DeviceUsernames: true})
	r.broker = b
	s := proof.Settings{
		"mqtt.url": "mqtt://" + addr, "mqtt.username": "bridge", "mqtt.password": proof.BridgePassword,
		"nats.url": r.nats.URL, "limits.device.rate": "0",
	}
	for path, value := range prepare(r) {
		s[path] = value
	}
	r.bridge = proof.StartInProcess(t, s)
	return r
}

// load publishes some hundred messages per second from n devices, dev-0 and up, until stop is
// called. stop returns the number of acknowledged messages.
func (r *liveRig) load(n int) (stop func() uint64) {
	r.t.Helper()
	var sent atomic.Uint64
	var wait sync.WaitGroup
	end := make(chan struct{})
	for i := range n {
		name := fmt.Sprintf("dev-%d", i)
		dev := paho.NewClient(paho.NewClientOptions().AddBroker(r.broker.URL()).SetClientID(name).
			SetUsername("acme/" + name).SetProtocolVersion(4).SetAutoReconnect(false))
		proof.AwaitToken(r.t, dev.Connect())
		wait.Go(func() {
			defer dev.Disconnect(0)
			for {
				select {
				case <-end:
					return
				case <-time.After(5 * time.Millisecond):
				}
				token := dev.Publish("tenant/acme/device/"+name+"/telemetry", 1, false, "21.5")
				if !token.WaitTimeout(testrun.Timeout) || token.Error() != nil {
					return
				}
				sent.Add(1)
			}
		})
	}
	return sync.OnceValue(func() uint64 {
		close(end)
		wait.Wait()
		return sent.Load()
	})
}

// reasons counts rejections.
func (r *liveRig) reasons(reason verdict.Reason) uint64 {
	total := r.bridge.Totals()
	return total.Rejected[reason]
}

// until waits for the condition and returns the elapsed time.
func (r *liveRig) until(what string, done func() bool) time.Duration {
	r.t.Helper()
	began := time.Now()
	proof.Eventually(r.t, done, func() any { return what })
	return time.Since(began)
}

// Every message with a PUBACK is stored, in quarantine or dropped. None is missing and none is
// stored twice.
func (r *liveRig) settled(sent uint64) {
	r.t.Helper()
	var c bridge.Counts
	proof.Eventually(r.t, func() bool {
		c = r.bridge.Totals()
		return c.Received == sent && c.InFlight == 0
	}, func() any { return fmt.Sprintf("%d sent, %+v", sent, r.bridge.Totals()) })
	require.Equal(r.t, sent, c.Stored+c.QuarantinedTotal()+c.QuarantineSkipped)
	for stream, want := range map[string]uint64{"TELEMETRY": c.Stored, "QUARANTINE": c.QuarantinedTotal()} {
		s, err := r.js.Stream(r.t.Context(), stream)
		require.NoError(r.t, err)
		require.Equal(r.t, want, s.CachedInfo().State.Msgs, stream)
	}
}

func TestLiveChanges(t *testing.T) {
	t.Parallel()
	t.Run("limits and revocations apply under load", testLimitsAndRevocationsApplyUnderLoad)
	t.Run("nothing is accepted before registry is read", testNothingIsAcceptedBeforeRegistryIsRead)
	t.Run("revocation in PostgreSQL applies under load", testRevocationInPostgreSQLAppliesUnderLoad)
}

func testLimitsAndRevocationsApplyUnderLoad(t *testing.T) {
	t.Parallel()
	var limits, certificates natsjs.KeyValue
	r := newLiveRig(t, func(r *liveRig) proof.Settings {
		limits, certificates = newBucket(t, r.js, "BRIDGE_LIMITS"), newBucket(t, r.js, "BRIDGE_CERTS")
		for i := range 4 {
			putKey(t, certificates, fmt.Sprintf("acme.dev-%d", i), `{"status":"ACTIVE","not_after":"2100-01-01T00:00:00Z"}`)
		}
		return proof.Settings{"identity.registry.kind": "kv"}
	})
	proof.AwaitReady(t, r.bridge)
	stop := r.load(4)
	r.until("messages", func() bool { return r.bridge.Totals().Stored > 100 })
	require.Empty(t, r.bridge.Status(t.Context()).Totals.Rejected)

	// Each time includes the wait for the next message, some 5 ms.
	putKey(t, certificates, "acme.dev-0", `{"status":"REVOKED"}`)
	revoked := r.until("revoked", func() bool { return r.reasons(verdict.CertRevoked) > 0 })
	require.NoError(t, certificates.Delete(t.Context(), "acme.dev-1"))
	r.until("unknown", func() bool { return r.reasons(verdict.CertUnknown) > 0 })
	putKey(t, certificates, "acme.dev-2", `{"status":"ACTIVE","not_after":"2020-01-01T00:00:00Z"}`)
	r.until("expired", func() bool { return r.reasons(verdict.CertExpired) > 0 })

	putKey(t, limits, "tenant.acme.device.dev-3", `{"rate":"1/h","burst":1}`)
	limited := r.until("limited", func() bool { return r.reasons(verdict.RateLimited) > 0 })
	putKey(t, limits, "tenant.acme.device.dev-3", `{"rate":"1/h","burst":"many"}`)
	var status daemon.Status
	r.until("refused", func() bool {
		status = r.bridge.Status(t.Context())
		return status.Limits.Overrides.Refused == 1
	})
	require.Equal(t, "tenant.acme.device.dev-3", status.Limits.Overrides.RefusedKeys[0].Key)
	require.Contains(t, status.Limits.Overrides.RefusedKeys[0].Reason, `burst: "many" is not a whole number`)
	require.Equal(t, 1, status.Limits.Overrides.Overrides, "the last valid one applies")
	before := r.bridge.Totals().Stored
	require.NoError(t, limits.Delete(t.Context(), "tenant.acme.device.dev-3"))
	freed := r.until("free again", func() bool { return r.bridge.Totals().Stored > before+10 })
	t.Logf("in force after: a revocation %s, a limit %s, its end and ten more messages %s", revoked, limited, freed)

	// Limits change while NATS restarts; missed changes are read afterwards.
	r.nats.Stop()
	r.until("stale", func() bool { return len(r.bridge.Warnings()) == 2 })
	r.nats.Start()
	r.until("not stale", func() bool { return len(r.bridge.Warnings()) == 0 })
	proof.AwaitReady(t, r.bridge)
	require.Eventually(t, func() bool {
		_, err := limits.PutString(t.Context(), "tenant.acme", `{"rate":"1/h","burst":1}`)
		return err == nil
	}, testrun.Timeout, 10*time.Millisecond)
	again := r.until("tenant limited", func() bool { return r.reasons(verdict.TenantRateLimited) > 0 })
	t.Logf("after a restart of nats-server a limit is in force after %s", again)
	r.settled(stop())
}

// Until the registry has been read once, messages are neither accepted nor rejected.
func testNothingIsAcceptedBeforeRegistryIsRead(t *testing.T) {
	t.Parallel()
	r := newLiveRig(t, func(*liveRig) proof.Settings { return proof.Settings{"identity.registry.kind": "kv"} })
	p := proof.AwaitProblem(t, r.bridge, "registry", "has not been read yet", "the bucket does not exist", "nats kv add BRIDGE_CERTS")
	require.NotZero(t, p.Since)
	require.Empty(t, r.broker.Clients(), "no session is opened")
	kv := newBucket(t, r.js, "BRIDGE_CERTS")
	putKey(t, kv, "acme.dev-0", `{"status":"ACTIVE"}`)
	proof.AwaitReady(t, r.bridge)
	stop := r.load(1)
	r.until("messages", func() bool { return r.bridge.Totals().Stored > 5 })
	r.settled(stop())
}

func testRevocationInPostgreSQLAppliesUnderLoad(t *testing.T) {
	t.Parallel()
	db := peers.Postgres(t, "fsync=off")
	exec := func(sql string) {
		t.Helper()
		c, err := pgx.Connect(t.Context(), db.URL)
		require.NoError(t, err)
		defer c.Close(t.Context())
		_, err = c.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	exec(documentedSQL(t))
	exec(`INSERT INTO device_certificates SELECT 'acme', 'dev-' || i, 'ACTIVE', NULL FROM generate_series(0, 3) i`)
	r := newLiveRig(t, func(*liveRig) proof.Settings {
		return proof.Settings{"identity.registry.kind": "postgres", "identity.registry.database_url": db.URL, "identity.registry.refresh": "1h"}
	})
	proof.AwaitReady(t, r.bridge)
	stop := r.load(4)
	r.until("messages", func() bool { return r.bridge.Totals().Stored > 50 })
	exec(`UPDATE device_certificates SET status = 'REVOKED' WHERE tenant_id = 'acme' AND device_id = 'dev-0'`)
	revoked := r.until("revoked", func() bool { return r.reasons(verdict.CertRevoked) > 0 })
	t.Logf("in force after: a revocation in PostgreSQL %s", revoked)

	db.Stop()
	r.until("stale", func() bool {
		w := r.bridge.Warnings()
		return len(w) == 1 && w[0].Component == "registry" && strings.Contains(w[0].Problem, "using the last known state")
	})
	ready, _ := r.bridge.Ready()
	require.True(t, ready, "the last known state is used")
	before, refused := r.bridge.Totals().Stored, r.reasons(verdict.CertRevoked)
	r.until("still stored, still revoked", func() bool {
		return r.bridge.Totals().Stored > before+20 && r.reasons(verdict.CertRevoked) > refused+5
	})
	db.Start()
	r.until("not stale", func() bool { return len(r.bridge.Warnings()) == 0 })
	exec(`DELETE FROM device_certificates WHERE device_id = 'dev-1'`)
	r.until("unknown", func() bool { return r.reasons(verdict.CertUnknown) > 0 })
	r.settled(stop())
}

// documentedSQL returns all SQL of docs/registry.md.
func documentedSQL(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/registry.md")
	require.NoError(t, err)
	var sql strings.Builder
	for i, part := range strings.Split(string(page), "```") {
		if text, ok := strings.CutPrefix(part, "sql\n"); ok && i%2 == 1 {
			sql.WriteString(text)
		}
	}
	require.Contains(t, sql.String(), "CREATE TRIGGER")
	return sql.String()
}
