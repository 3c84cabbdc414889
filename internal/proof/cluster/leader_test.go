package cluster

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
)

// replicated is a load of about duration d on streams of three replicas.
func replicated(t testing.TB, rate int, d time.Duration) proof.LoadOptions {
	t.Helper()
	testrun.SkipQuick(t, "elections take a minute")
	return proof.LoadOptions{Devices: 100, Rate: rate, Total: rate * int(d/time.Second)}
}

// loosely turns strict order off, the default for streams without replicas.
const loosely = "BRIDGE_NATS_STRICT_ORDER=off"

func TestLeaderFault(t *testing.T) {
	t.Parallel()
	t.Run("kill costs neither message nor order", testKillCostsNeitherMessageNorOrder)
	t.Run("freeze costs neither message nor order", testFreezeCostsNeitherMessageNorOrder)
	t.Run("step-down costs order at most", testStepDownCostsOrderAtMost)
	t.Run("rolling restart costs order at most", testRollingRestartCostsOrderAtMost)
	t.Run("connected leader frozen costs order at most", testConnectedLeaderFrozenCostsOrderAtMost)
	t.Run("long ack timeout costs order at most", testLongAckTimeoutCostsOrderAtMost)
}

func testKillCostsNeitherMessageNorOrder(t *testing.T) {
	t.Parallel()
	proof.Survive(t, proof.Fault{Name: "R3: leader killed", Times: 3, Rig: proof.RigOptions{Cluster: true}, Inject: func(r *proof.Rig) {
		leader := r.Cluster.Leader("TELEMETRY")
		leader.Kill9()
		r.Cluster.Leader("TELEMETRY")
		leader.Start()
		r.Cluster.AwaitCurrent("TELEMETRY")
	}}, "1,500 per second", replicated(t, 1500, 24*time.Second))
}

// The bridge is connected to a running node that leads no stream.
func testFreezeCostsNeitherMessageNorOrder(t *testing.T) {
	t.Parallel()
	proof.Survive(t, proof.Fault{Name: "R3: leader frozen for 10 s", Times: 2, Rig: proof.RigOptions{Cluster: true, NATSProxy: true}, Inject: func(r *proof.Rig) {
		connectTo(r, func(leads bool) bool { return !leads })
		freezeLeader(r, 10*time.Second)
	}}, "1,500 per second", replicated(t, 1500, 40*time.Second))
}

// A leader that steps down silently drops the messages in its queue, and its successor
// accepts later ones. No client can recall what it has sent.
func testStepDownCostsOrderAtMost(t *testing.T) {
	t.Parallel()
	const times = 5
	costsOrderAlone(t, proof.Fault{Name: "R3: leader steps down", Times: times, Rig: proof.RigOptions{Cluster: true}, Inject: func(r *proof.Rig) {
		r.Cluster.StepDown("TELEMETRY")
		r.Cluster.AwaitCurrent("TELEMETRY")
	}}, "1,500 per second", replicated(t, 1500, 20*time.Second), times*inFlight)
}

func testRollingRestartCostsOrderAtMost(t *testing.T) {
	t.Parallel()
	costsOrderAlone(t, proof.Fault{Name: "R3: rolling restart", Rig: proof.RigOptions{Cluster: true}, Inject: func(r *proof.Rig) {
		r.Cluster.RollingRestart("TELEMETRY")
	}}, "1,500 per second", replicated(t, 1500, 20*time.Second), inFlight)
}

// The bridge is connected to the node that freezes, so its messages wait in that node's socket.
// When the node resumes, it still accepts the first ones as the leader and forwards the others
// to its successor.
func testConnectedLeaderFrozenCostsOrderAtMost(t *testing.T) {
	t.Parallel()
	const times = 2
	costsOrderAlone(t, proof.Fault{Name: "R3: leader frozen for 10 s, bridge connected to it", Times: times, Rig: proof.RigOptions{Cluster: true, NATSProxy: true}, Inject: func(r *proof.Rig) {
		connectTo(r, func(leads bool) bool { return leads })
		freezeLeader(r, 10*time.Second)
	}}, "1,500 per second", replicated(t, 1500, 40*time.Second), times*inFlight)
}

// If nats.ack_timeout exceeds an election, messages sent to the frozen leader are resent too
// late: its successor has already stored later ones. The bridge warns about this setting at the
// start.
func testLongAckTimeoutCostsOrderAtMost(t *testing.T) {
	t.Parallel()
	long := proof.RigOptions{Cluster: true, Env: []string{"BRIDGE_NATS_ACK_TIMEOUT=30s"}}
	// At this rate the broker's window of 1,000 does not fill up before the election.
	costsOrderAlone(t, proof.Fault{Name: "R3: leader frozen for 12 s, ack_timeout 30 s", Rig: long, Inject: func(r *proof.Rig) {
		freezeLeader(r, 12*time.Second)
	}}, "80 per second", replicated(t, 80, 30*time.Second), 1000)
}

// inFlight is the maximum of messages that can be overtaken per fault: a lane's messages in
// flight to JetStream.
const inFlight = 4096

// costsOrderAlone allows at most that many messages out of order without strict order. With
// strict order, the default for replicated streams, it allows none.
func costsOrderAlone(t *testing.T, f proof.Fault, what string, o proof.LoadOptions, most int) {
	t.Helper()
	loose := f
	loose.Rig.Env = append([]string{loosely}, f.Rig.Env...)
	t.Run("without", func(t *testing.T) {
		t.Parallel()
		v := proof.Run(t, loose, what+", strict_order off", o)
		require.Zero(t, v.Lost+v.Duplicated+v.Foreign, v)
		require.LessOrEqual(t, v.Inversions, most, v)
	})
	t.Run("by default", func(t *testing.T) {
		t.Parallel()
		proof.Survive(t, f, what, o)
	})
}

// connectTo moves the bridge to a node for which suits returns true, given whether the node
// leads the stream.
func connectTo(r *proof.Rig, suits func(leads bool) bool) {
	r.T.Helper()
	leader := r.Cluster.Leader("TELEMETRY")
	var unfit []*peers.TCPProxy
	for i, n := range r.Cluster.Nodes {
		if !suits(n == leader) {
			r.NATSProxies[i].Down()
			unfit = append(unfit, r.NATSProxies[i])
		}
	}
	stored := func() uint64 {
		s, err := r.JS.Stream(r.T.Context(), "TELEMETRY")
		if err != nil {
			return 0
		}
		return s.CachedInfo().State.LastSeq
	}
	// The old connections are closed, so a message stored now came over a new one.
	from := stored()
	proof.Eventually(r.T, func() bool { return stored() > from+1000 }, func() any { return "the bridge does not store" })
	for _, p := range unfit {
		p.Up()
	}
}

// freezeLeader suspends the leader for d, long enough for the election of another one.
func freezeLeader(r *proof.Rig, d time.Duration) {
	leader := r.Cluster.Leader("TELEMETRY")
	leader.Freeze()
	time.Sleep(d) // duration of the fault
	leader.Thaw()
	r.Cluster.AwaitCurrent("TELEMETRY")
}
