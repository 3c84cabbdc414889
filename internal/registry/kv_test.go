package registry

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/certificates"
	"mqtt-nats-bridge/internal/child"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/conn"
)

// journalOf is a log that a test reads.
type journalOf struct{ child.Log }

func (l *journalOf) count(text string) int { return strings.Count(l.String(), text) }

func TestKV(t *testing.T) {
	t.Parallel()
	server := peers.NATSServer(t, peers.NATSOptions{})
	nc, err := conn.Connect(conn.Options{URL: server.URL})
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	log := &journalOf{}
	c := certificates.New()
	k := NewKV(KVOptions{Conn: nc, JetStream: js, Bucket: "BRIDGE_CERTS", Certificates: c, Log: zerolog.New(log)})
	under(t, k)
	eventually(t, "missing", k, func(s State) bool { return s.Advice == "create it with nats kv add BRIDGE_CERTS" })
	require.False(t, loaded(k), "no state at all")
	require.True(t, k.State().LoadedAt.IsZero())

	kv, err := js.CreateKeyValue(t.Context(), natsjs.KeyValueConfig{Bucket: "BRIDGE_CERTS"})
	require.NoError(t, err)
	put := func(key, value string) {
		t.Helper()
		_, err := kv.PutString(t.Context(), key, value)
		require.NoError(t, err)
	}
	<-k.Loaded()
	put("acme.dev-1", `{"status":"ACTIVE"}`)
	put("acme=2Eeu.dev=201", `{"status":"ACTIVE","not_after":"2027-01-31T00:00:00Z"}`)
	is(t, k, c, "acme/dev-1", active(0), true)
	is(t, k, c, "acme.eu/dev 1", active(1801353600000), true)

	put("acme.dev-1", `{"status":"REVOKED"}`)
	t.Logf("a revocation is in force after %s", is(t, k, c, "acme/dev-1", certificates.Certificate{Status: "REVOKED"}, true))

	// An unreadable entry keeps its previous state, is reported, and logged once.
	put("acme.dev-1", `{"status":"ACTIVE"}`)
	is(t, k, c, "acme/dev-1", active(0), true)
	for range 3 {
		put("acme.dev-1", `nonsense`)
	}
	put("not-a-key", `{"status":"ACTIVE"}`)
	state := eventually(t, "refused", k, func(s State) bool { return s.Refused == 2 })
	require.Equal(t, "acme.dev-1", state.RefusedEntries[0].Key)
	require.Contains(t, state.RefusedEntries[0].Reason, "is not a JSON object")
	require.Equal(t, "the key is not of the form tenant.device", state.RefusedEntries[1].Reason)
	is(t, k, c, "acme/dev-1", active(0), true)
	require.Equal(t, 1, log.count(`"key":"acme.dev-1"`))

	// After a server restart the state is stale, then everything is read again, including the last
	// valid entry.
	server.Stop()
	state = eventually(t, "stale", k, State.Stale)
	require.Equal(t, 2, state.Entries, "last known state is used")
	server.Start()
	eventually(t, "up to date", k, func(s State) bool { return !s.Stale() })
	is(t, k, c, "acme/dev-1", active(0), true)
	require.Eventually(t, nc.IsConnected, testrun.Timeout, time.Millisecond)
	require.Equal(t, nats.CONNECTED, nc.Status())
	put("acme.dev-1", `{"status":"ACTIVE"}`)
	require.NoError(t, kv.Delete(t.Context(), "not-a-key"))
	eventually(t, "accepted", k, func(s State) bool { return s.Refused == 0 })
	require.NoError(t, kv.Delete(t.Context(), "acme.dev-1"))
	is(t, k, c, "acme/dev-1", certificates.Certificate{}, false)
}
