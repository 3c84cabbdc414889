package check

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

const auto = "BRIDGE_LANES_PARTITIONS=auto"

func TestLeasePermissions(t *testing.T) {
	t.Parallel()
	rights := []string{
		"$JS.API.STREAM.INFO.KV_BRIDGE_LANES", "$JS.API.CONSUMER.CREATE.KV_BRIDGE_LANES.>", "$JS.API.CONSUMER.DELETE.KV_BRIDGE_LANES.>",
		"$JS.API.DIRECT.GET.KV_BRIDGE_LANES.>", "$JS.FC.KV_BRIDGE_LANES.>", "$KV.BRIDGE_LANES.>",
	}
	for _, missing := range append(rights, "") {
		t.Run(strings.TrimPrefix(missing, "$JS.API."), func(t *testing.T) {
			t.Parallel()
			var allowed []string
			for _, right := range rights {
				if right != missing {
					allowed = append(allowed, `"`+right+`"`)
				}
			}
			s := startNATSFile(t, `publish: { allow: ["tenant.>", "quarantine.>", "$JS.API.INFO", `+strings.Join(allowed, ", ")+
				`] }, subscribe: { allow: ["_INBOX.bridge.>"] }`)
			admin := openJetStream(t, s.URL(), nats.UserInfo("admin", "admin"))
			kv, err := admin.CreateKeyValue(t.Context(), natsjs.KeyValueConfig{Bucket: "BRIDGE_LANES", TTL: 10 * time.Second})
			require.NoError(t, err)
			elsewhere := strings.Contains(missing, ".CONSUMER.DELETE.") // the entries can still be read
			if elsewhere {
				_, err = kv.PutString(t.Context(), "bridge.replica.abc", `{"id":"abc","host":"one","broker":"192.0.2.1:1883"}`)
				require.NoError(t, err)
			}
			out, _ := checkNATS(t, "NATS_URL="+s.URL(), "BRIDGE_NATS_USER=bridge", "BRIDGE_NATS_PASSWORD=bridge",
				"BRIDGE_NATS_INBOX_PREFIX=_INBOX.bridge", "BRIDGE_STREAMS_MANAGE=off", auto)
			if missing == "" {
				require.NotContains(t, out, "FAIL  leases")
				require.Contains(t, out, "ok    leases: bucket BRIDGE_LANES can be read and watched, no replica is running")
				return
			}
			require.Equal(t, elsewhere, strings.Contains(out, "FAIL  leases: replica abc at one has the same client id and connects to another broker"), out)
			require.Regexp(t, "FAIL  leases: .*allow (the user to publish|publishing) to "+strings.ReplaceAll(strings.TrimSuffix(missing, ">"), "$", `\$`), out)
		})
	}
}

func TestLeaseBucket(t *testing.T) {
	t.Parallel()
	s := startNATS(t, nil)
	js := openJetStream(t, s.URL())
	out, r := checkNATS(t, "NATS_URL="+s.URL(), auto)
	require.Zero(t, r.Failed(), out)
	require.Contains(t, out, "note  leases: the bucket BRIDGE_LANES does not exist yet, the bridge creates it at start")
	out, r = checkNATS(t, "NATS_URL="+s.URL(), auto, "BRIDGE_STREAMS_MANAGE=off")
	require.Contains(t, out, "FAIL  leases: the bucket BRIDGE_LANES does not exist: create it with nats kv add BRIDGE_LANES --ttl 10s")
	require.Positive(t, r.Failed())

	kv, err := js.CreateKeyValue(t.Context(), natsjs.KeyValueConfig{Bucket: "BRIDGE_LANES"})
	require.NoError(t, err)
	out, r = checkNATS(t, "NATS_URL="+s.URL(), auto)
	require.Equal(t, 1, r.Failed(), out)
	require.Contains(t, out, "FAIL  leases: the bucket BRIDGE_LANES has a TTL of 0s, but leases need one from 2s to 5m: run nats kv edit BRIDGE_LANES --ttl 10s")

	_, err = js.UpdateKeyValue(t.Context(), natsjs.KeyValueConfig{Bucket: "BRIDGE_LANES", TTL: time.Minute})
	require.NoError(t, err)
	for key, value := range map[string]string{
		"bridge.replica.abc": `{"id":"abc","host":"one"}`, "bridge.replica.xyz": `{"id":"xyz","host":"two","leaving":true}`,
		"bridge.p0": `{"holder":"abc"}`, "bridge.p1": `{"holder":"abc"}`, "bridge.p2": `{"holder":""}`, "other.p3": `{"holder":"q"}`,
	} {
		_, err = kv.PutString(t.Context(), key, value)
		require.NoError(t, err)
	}
	before, err := kv.Status(t.Context())
	require.NoError(t, err)
	out, r = checkNATS(t, "NATS_URL="+s.URL(), auto)
	require.Zero(t, r.Failed(), out)
	c, plan := load(t, auto)
	var local bytes.Buffer
	Local(c, plan, NewReport(&local))
	require.Contains(t, local.String(), "lanes bridge-p0 to bridge-pf shared with other replicas")
	require.Contains(t, out, "note  leases: the bucket BRIDGE_LANES has a TTL of 1m0s, lanes.ttl is 10s")
	require.Contains(t, out, "ok    leases: bucket BRIDGE_LANES can be read and watched, 1 replica is running, 2 of 16 partitions are leased: abc at one")
	after, err := kv.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, before.Values(), after.Values(), "nothing was written")
	stream, err := js.Stream(t.Context(), "KV_BRIDGE_LANES")
	require.NoError(t, err)
	require.Zero(t, stream.CachedInfo().State.Consumers, "nobody watches any more")
}
