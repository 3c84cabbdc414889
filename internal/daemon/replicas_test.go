package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/child"
	"mqtt-nats-bridge/internal/config"
	processes "mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/embedded"
)

// joined is a replica that the test stops.
func joined(t *testing.T, log *child.Log, env ...string) *Bridge {
	t.Helper()
	// If a variable is set twice, the first value counts.
	c, err := config.Load(config.Sources{Env: append(slices.Clip(env), "BRIDGE_LANES_PARTITIONS=auto", "BRIDGE_LANES_TTL=2s")})
	require.NoError(t, err)
	b, err := Open(t.Context(), Options{Config: c, Log: zerolog.New(log), Version: "1.2.3"})
	require.NoError(t, err)
	return b
}

// awaitHeld waits until a bridge is ready, leases n partitions, and has exactly their lanes
// subscribed.
func awaitHeld(t *testing.T, b *Bridge, n int) Status {
	t.Helper()
	var s Status
	require.Eventually(t, func() bool {
		s = b.Status(t.Context())
		open := 0
		for _, l := range s.Lanes {
			if l.Open != l.Lease.Here || l.Lease.Owner == "" {
				return false
			}
			if l.Open {
				open++
			}
		}
		return s.Ready && open == n && s.Replicas.Leased == n
	}, testrun.Timeout, 5*time.Millisecond, "%+v", b.Problems())
	return s
}

func TestReplicas(t *testing.T) {
	t.Parallel()
	t.Run("status shows owner of each lease", testStatusShowsOwnerOfEachLease)
	t.Run("both replicas report different brokers", testBothReplicasReportDifferentBrokers)
	t.Run("lane that cannot open is retried", testLaneThatCannotOpenIsRetried)
	t.Run("lease bucket failure does not stop lanes", testLeaseBucketFailureDoesNotStopLanes)
	t.Run("missing bucket is reported with advice", testMissingBucketIsReportedWithAdvice)
	t.Run("no lease before registry is read", testNoLeaseBeforeRegistryIsRead)
}

func testStatusShowsOwnerOfEachLease(t *testing.T) {
	t.Parallel()
	mqtt, nats := attesting(t), embeddedNATS(t)
	var log child.Log
	// The interval is long enough for a busy machine to answer in time: a late answer is a warning.
	env := append(peers(mqtt, nats), "BRIDGE_LANES_TTL=1m")
	a := joined(t, &log, env...)
	s := awaitHeld(t, a, 16)
	require.Len(t, s.Replicas.All, 1)
	require.Equal(t, "0-f", s.Replicas.All[0].Partitions)
	require.Equal(t, 60.0, s.Replicas.TTLSeconds)

	// Send one message in each partition, so that each lane has a count.
	partitions := map[string]string{}
	for i := 0; len(partitions) < 16; i++ {
		cn := fmt.Sprintf("acme/dev-%d", i)
		if partitions[broker.Partition(cn)] == "" {
			partitions[broker.Partition(cn)] = cn
			publishFrom(t, mqtt, cn, "tenant/"+strings.Replace(cn, "/", "/device/", 1)+"/telemetry", 1)
		}
	}
	require.Eventually(t, func() bool { return a.Totals().Stored == 16 }, testrun.Timeout, 5*time.Millisecond)

	b := joined(t, &log, env...)
	s = awaitHeld(t, a, 8)
	theirs := awaitHeld(t, b, 8)
	require.Len(t, s.Replicas.All, 2)
	require.Len(t, theirs.Replicas.All, 2)
	for i, l := range s.Lanes {
		require.NotEqual(t, l.Lease.Here, theirs.Lanes[i].Lease.Here, "partition of %s", l.ClientID)
		require.Equal(t, l.Lease.Owner, theirs.Lanes[i].Lease.Owner)
		require.EqualValues(t, 1, l.Counts.Stored, "what a lane has counted stays when it moves")
	}
	require.EqualValues(t, 16, a.Totals().Stored)
	require.True(t, a.Totals().Connected)

	pedantic := prometheus.NewPedanticRegistry()
	pedantic.MustRegister(a.collectors()...)
	sum, series := sums(t, pedantic)
	require.Equal(t, 16, series["mqttbridge_received_total"])
	require.Equal(t, 8, series["mqttbridge_mqtt_connected"], "no word on the lanes of others")
	require.Equal(t, 8.0, sum["mqttbridge_mqtt_connected"])
	for name, want := range map[string]float64{
		"mqttbridge_ready": 1, "mqttbridge_replicas": 2, "mqttbridge_partitions_held": 8, "mqttbridge_partitions_unheld": 0,
		"mqttbridge_leases_reachable": 1, "mqttbridge_partitions_taken_total": 16,
		"mqttbridge_partitions_handed_over_total": 8, "mqttbridge_partitions_lost_total": 0,
		"mqttbridge_received_total": 16, "mqttbridge_stored_total": 16, "mqttbridge_session_lost_total": 0,
	} {
		require.Equal(t, want, sum[name], name)
	}

	require.NoError(t, a.Close(context.Background()))
	awaitHeld(t, b, 16)
	c := joined(t, &log, env...)
	awaitHeld(t, b, 8)
	require.NoError(t, c.Close(context.Background()))
	awaitHeld(t, b, 16)
	pedantic = prometheus.NewPedanticRegistry()
	pedantic.MustRegister(b.collectors()...)
	sum, _ = sums(t, pedantic)
	for _, name := range []string{"mqttbridge_mqtt_reconnects_total", "mqttbridge_nats_reconnects_total"} {
		require.Zero(t, sum[name], "%s: a partition that comes back is no lost connection", name)
	}
	require.NoError(t, b.Close(context.Background()))
	require.NotContains(t, log.String(), `"level":"error"`)
	require.NotContains(t, log.String(), `"level":"warn"`)
}

func testBothReplicasReportDifferentBrokers(t *testing.T) {
	t.Parallel()
	nats := embeddedNATS(t)
	var log child.Log
	a := joined(t, &log, peers(attesting(t), nats)...)
	t.Cleanup(func() { _ = a.Close(context.Background()) })
	awaitHeld(t, a, 16)
	b := joined(t, &log, peers(attesting(t), nats)...)
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	for _, r := range []*Bridge{a, b} {
		require.Eventually(t, func() bool {
			ready, problems := r.Ready()
			return !ready && slices.ContainsFunc(problems, func(p Problem) bool {
				return p.Component == "leases" && strings.Contains(p.Problem, "another broker") && strings.Contains(p.Advice, "a different mqtt.client_id")
			})
		}, testrun.Timeout, 5*time.Millisecond, "%+v", r.Problems())
	}
	require.Contains(t, log.String(), "replicas with this client id connect to another broker")
	require.Contains(t, log.String(), `"advice":"`+a.Problems()[0].Advice)
}

// A missing file at the time a partition is acquired must not end the lanes that run.
func testLaneThatCannotOpenIsRetried(t *testing.T) {
	t.Parallel()
	mqtt := attesting(t)
	tls, ca := processes.NATSTLS(t)
	server := processes.NATSServer(t, processes.NATSOptions{Config: tls})
	var log child.Log
	env := append(brokerOf(mqtt), "NATS_URL="+server.URL, "BRIDGE_LANES_TTL=1m")
	a := joined(t, &log, append(env, "BRIDGE_NATS_TLS_CA="+ca)...)
	awaitHeld(t, a, 16)
	own := filepath.Join(t.TempDir(), "ca.pem")
	content, err := os.ReadFile(ca)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(own, content, 0o600))
	b := joined(t, &log, append(env, "BRIDGE_NATS_TLS_CA="+own)...)
	awaitHeld(t, b, 8)
	require.NoError(t, os.Remove(own))
	require.NoError(t, a.Close(context.Background()))
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(b.Problems(), func(p Problem) bool {
			return p.Component == "lane" && strings.Contains(p.Problem, "ca.pem") && len(p.Lanes) == 8
		})
	}, testrun.Timeout, 5*time.Millisecond)
	require.NoError(t, os.WriteFile(own, content, 0o600))
	awaitHeld(t, b, 16)
	require.NoError(t, os.Remove(own))
	require.NoError(t, b.Close(context.Background()))
	require.Empty(t, b.Failed())
}

func testLeaseBucketFailureDoesNotStopLanes(t *testing.T) {
	t.Parallel()
	mqtt, nats := attesting(t), embeddedNATS(t)
	var log child.Log
	b := joined(t, &log, append(peers(mqtt, nats), "BRIDGE_LANES_TTL=20s")...)
	awaitHeld(t, b, 16)
	js := admin(t, nats)
	// Without the bucket's TTL no lease would expire.
	stream, err := js.Stream(t.Context(), "KV_BRIDGE_LANES")
	require.NoError(t, err)
	endless := stream.CachedInfo().Config
	endless.MaxAge = 0
	_, err = js.UpdateStream(t.Context(), endless)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		p := b.Problems()
		return len(p) == 1 && p[0].Component == "leases" && strings.Contains(p[0].Advice, "nats kv edit BRIDGE_LANES --ttl")
	}, testrun.Timeout, 5*time.Millisecond)
	require.Contains(t, log.String(), `"advice":"`+b.Problems()[0].Advice)
	publishFrom(t, mqtt, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", 3)
	require.Eventually(t, func() bool { return b.Totals().Stored == 3 }, testrun.Timeout, 5*time.Millisecond)
	require.NoError(t, js.DeleteKeyValue(t.Context(), "BRIDGE_LANES"))
	awaitHeld(t, b, 16)
	require.Zero(t, b.Status(t.Context()).Replicas.Lost)
	require.NoError(t, b.Close(context.Background()))
}

func admin(t *testing.T, s *embedded.Server) natsjs.JetStream {
	t.Helper()
	nc, err := nats.Connect(s.URL())
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	return js
}

func testMissingBucketIsReportedWithAdvice(t *testing.T) {
	t.Parallel()
	mqtt, nats := attesting(t), embeddedNATS(t)
	var log child.Log
	b := joined(t, &log, append(peers(mqtt, nats), "BRIDGE_STREAMS_MANAGE=off")...)
	require.Eventually(t, func() bool {
		p := b.Problems()
		return len(p) == 1 && p[0].Component == "leases" && strings.Contains(p[0].Advice, "nats kv add BRIDGE_LANES --ttl 2s")
	}, testrun.Timeout, 5*time.Millisecond)
	require.Empty(t, mqtt.Clients(), "no lane without a lease")
	require.NoError(t, b.Close(context.Background()))
}

// A replica must not lease partitions before it has read its registry: others could serve them.
func testNoLeaseBeforeRegistryIsRead(t *testing.T) {
	t.Parallel()
	mqtt, nats := attesting(t), embeddedNATS(t)
	var log child.Log
	a := joined(t, &log, peers(mqtt, nats)...)
	awaitHeld(t, a, 16)
	b := joined(t, &log, append(peers(mqtt, nats), "BRIDGE_IDENTITY_REGISTRY_KIND=kv")...)
	require.Eventually(t, func() bool {
		p := b.Problems()
		return len(p) == 1 && p[0].Component == "registry" && strings.Contains(p[0].Problem, "does not exist")
	}, testrun.Timeout, 5*time.Millisecond, "%+v", b.Problems())
	require.Len(t, awaitHeld(t, a, 16).Replicas.All, 1)
	_, err := admin(t, nats).CreateKeyValue(t.Context(), natsjs.KeyValueConfig{Bucket: "BRIDGE_CERTS"})
	require.NoError(t, err)
	awaitHeld(t, a, 8)
	awaitHeld(t, b, 8)
	require.NoError(t, a.Close(context.Background()))
	require.NoError(t, b.Close(context.Background()))

	b = joined(t, &log, append(peers(mqtt, nats), "BRIDGE_IDENTITY_REGISTRY_KIND=kv", "BRIDGE_IDENTITY_REGISTRY_BUCKET=NONE")...)
	require.NoError(t, b.Close(context.Background()), "stopped while it waits")
}
