package cluster

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
)

// Two replicas of the bridge share the partitions; the streams have three replicas. The broker
// restarts and keeps its sessions, and publishers resend unacknowledged messages. Replicas are
// killed, stopped, frozen and disconnected, and stream leaders change.
func TestMixedFaultsOfReplicas(t *testing.T) {
	t.Parallel()
	if testrun.Quick() && os.Getenv(minutesVariable) == "" {
		t.Skip("each fault has its own test: BRIDGE_FAULTS=1 runs them mixed")
	}
	for name, shares := range map[string][2]string{"auto": {"auto", "auto"}, "fixed partitions": {"0-7", "8-f"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mixedReplicas(t, name, shares, mixedFor(t))
		})
	}
}

func mixedReplicas(t *testing.T, name string, shares [2]string, lasts time.Duration) {
	random := proof.Random(t)
	r := newClusterRig(t)
	var both []*replica
	for i, share := range shares {
		both = append(both, r.startShare(string("ab"[i]), share))
	}
	n := 0
	proof.EventuallyWithin(t, 2*testrun.Timeout, func() bool { // from then on the broker queues published messages
		n = strings.Count(both[0].Log().String()+both[1].Log().String(), "mqtt connected")
		return n >= 16
	}, func() any { return n })
	r.cluster.AwaitCurrent("TELEMETRY")
	l := proof.StartLoad(t, proof.LoadOptions{
		Addr: r.broker.Addr, Devices: 200, Size: 64, Rate: mixedRate, Reconnect: true, Attested: true,
		Total: mixedRate * int(lasts/time.Second),
	})
	l.Release(l.Total)
	injected := chaos(t, random, lasts, brokerImpairments(r), clusterImpairments(r, random), replicaImpairments(both[0]), replicaImpairments(both[1]))
	l.AwaitEnd(t)
	r.markPartitions()
	for _, p := range both {
		require.Zero(t, p.Stop(), "exit code")
	}
	r.cluster.AwaitCurrent("TELEMETRY")
	all := proof.ReadLoad(t, r.js, "TELEMETRY")
	v := l.Reconcile(all)
	proof.Report("all mixed, two replicas, "+name, fmt.Sprintf("%v, %d faults", lasts, injected), v)
	t.Logf("%v; with what devices published twice, %d behind a later one", v, again(all))
	if !v.Clean() {
		t.Log(l.Explain(all))
	}
	require.Zero(t, v.Lost+v.Foreign+v.Inversions, v)
}

// again counts messages stored after a later one of the same device, including second copies of
// messages that a device published twice.
func again(all []proof.Stored) (n int) {
	latest := map[string]uint64{}
	for _, s := range all {
		if s.Message < latest[s.Subject] {
			n++
		}
		latest[s.Subject] = max(latest[s.Subject], s.Message)
	}
	return n
}

// brokerImpairments returns the faults of a broker that keeps its sessions.
func brokerImpairments(r *fleetRig) []impairment {
	return []impairment{
		{"mosquitto restarted", 0, func() func() {
			r.broker.Restart()
			return func() {}
		}},
		{"mosquitto stopped", 3 * time.Second, func() func() {
			r.broker.Stop()
			return r.broker.Start
		}},
	}
}

// clusterImpairments returns the faults of the servers and the stream.
func clusterImpairments(r *fleetRig, random *rand.Rand) []impairment {
	list := natsImpairments(&proof.Rig{T: r.t, Cluster: r.cluster, JS: r.js, Random: random})
	return slices.DeleteFunc(list, func(a impairment) bool { return strings.HasPrefix(a.name, "NATS link") })
}

// replicaImpairments returns the faults of one replica and its links.
func replicaImpairments(p *replica) []impairment {
	over := func() {}
	impaired := func(name string, towards, back peers.Impairment) []impairment {
		return []impairment{
			{"MQTT link of " + p.name + " " + name, 6 * time.Second, func() func() {
				p.broker.Impair(towards, back)
				return p.broker.Mend
			}},
			{"NATS links of " + p.name + " " + name, 8 * time.Second, func() func() {
				p.nats.each(func(x *peers.TCPProxy) { x.Impair(towards, back) })
				return func() { p.nats.each((*peers.TCPProxy).Mend) }
			}},
		}
	}
	list := []impairment{
		{"replica " + p.name + " killed", 3 * time.Second, func() func() {
			p.Kill9()
			return p.Start
		}},
		{"replica " + p.name + " stopped", 3 * time.Second, func() func() {
			p.Stop()
			return p.Start
		}},
		{"replica " + p.name + " frozen", 12 * time.Second, func() func() {
			p.Freeze()
			return p.Thaw
		}},
		{"MQTT link of " + p.name + " cut", 0, func() func() {
			p.broker.Cut()
			return over
		}},
		{"NATS links of " + p.name + " cut", 0, func() func() {
			p.nats.each(func(x *peers.TCPProxy) { x.Cut() })
			return over
		}},
		{"NATS links of " + p.name + " down", 12 * time.Second, func() func() {
			p.nats.each(func(x *peers.TCPProxy) { x.Down() })
			return func() { p.nats.each((*peers.TCPProxy).Up) }
		}},
	}
	list = append(list, impaired("half-open outbound", peers.Impairment{Vanish: true}, peers.Impairment{})...)
	list = append(list, impaired("half-open inbound", peers.Impairment{}, peers.Impairment{Vanish: true})...)
	return append(list, impaired("stalled", peers.Impairment{Hold: true}, peers.Impairment{Hold: true})...)
}
