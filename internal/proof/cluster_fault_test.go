package proof

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
)

// replicated is a load over three replicas for about so long.
func replicated(t testing.TB, rate int, d time.Duration) loadOptions {
	t.Helper()
	if quick() {
		t.Skip("elections take a minute: BRIDGE_FAULTS=1 runs it")
	}
	return loadOptions{Devices: 100, Rate: rate, Total: rate * int(d/time.Second)}
}

// loosely has the bridge send what it has, as it does where streams are not
// replicated.
const loosely = "BRIDGE_NATS_STRICT_ORDER=off"

func TestALeaderKilledAgainAndAgainCostsNeitherMessageNorOrder(t *testing.T) {
	t.Parallel()
	survive(t, fault{name: "R3: leader killed", times: 3, rig: rigOptions{Cluster: true}, strike: func(r *plainRig) {
		leader := r.cluster.Leader("TELEMETRY")
		leader.Kill9()
		r.cluster.Leader("TELEMETRY")
		leader.Start()
		r.cluster.AwaitCurrent("TELEMETRY")
	}}, "1,500 per second", replicated(t, 1500, 24*time.Second))
}

// The bridge is connected to a node that goes on, and leads nothing.
func TestAFrozenLeaderCostsNeitherMessageNorOrder(t *testing.T) {
	t.Parallel()
	survive(t, fault{name: "R3: leader frozen for 10 s", times: 2, rig: rigOptions{Cluster: true, NATSProxy: true}, strike: func(r *plainRig) {
		r.connectTo(func(leads bool) bool { return !leads })
		freezeLeader(r, 10*time.Second)
	}}, "1,500 per second", replicated(t, 1500, 40*time.Second))
}

// A leader that hands over in good order drops without a word what waits in its
// queue, and its successor takes what comes next. No client can call back what it
// has sent.
func TestALeaderThatStepsDownCostsOrderAloneAndNothingUnderStrictOrder(t *testing.T) {
	t.Parallel()
	const times = 5
	costsOrderAlone(t, fault{name: "R3: leader steps down", times: times, rig: rigOptions{Cluster: true}, strike: func(r *plainRig) {
		r.cluster.StepDown("TELEMETRY")
		r.cluster.AwaitCurrent("TELEMETRY")
	}}, "1,500 per second", replicated(t, 1500, 20*time.Second), times*inFlight)
}

func TestARollingRestartCostsOrderAloneAndNothingUnderStrictOrder(t *testing.T) {
	t.Parallel()
	costsOrderAlone(t, fault{name: "R3: rolling restart", rig: rigOptions{Cluster: true}, strike: func(r *plainRig) {
		r.cluster.RollingRestart("TELEMETRY")
	}}, "1,500 per second", replicated(t, 1500, 20*time.Second), inFlight)
}

// The bridge is connected to the very node that freezes. What it has sent waits
// in that node's socket, and when the node goes on it takes the first of these
// messages for a leader that it no longer is, and passes the others on to its
// successor.
func TestAFrozenLeaderThatTheBridgeIsConnectedToCostsOrderAloneAndNothingUnderStrictOrder(t *testing.T) {
	t.Parallel()
	const times = 2
	costsOrderAlone(t, fault{name: "R3: leader frozen for 10 s, bridge connected to it", times: times, rig: rigOptions{Cluster: true, NATSProxy: true}, strike: func(r *plainRig) {
		r.connectTo(func(leads bool) bool { return leads })
		freezeLeader(r, 10*time.Second)
	}}, "1,500 per second", replicated(t, 1500, 40*time.Second), times*inFlight)
}

// With nats.ack_timeout beyond an election, what was sent to the frozen leader is
// sent again only after its successor has stored what came later, as the warning
// at the start says.
func TestAFrozenLeaderWithALongAckTimeoutCostsOrderAloneAndNothingUnderStrictOrder(t *testing.T) {
	t.Parallel()
	long := rigOptions{Cluster: true, Env: []string{"BRIDGE_NATS_ACK_TIMEOUT=30s"}}
	// So few that the broker's window of 1,000 is open until the election.
	costsOrderAlone(t, fault{name: "R3: leader frozen for 12 s, ack_timeout 30 s", rig: long, strike: func(r *plainRig) {
		freezeLeader(r, 12*time.Second)
	}}, "80 per second", replicated(t, 80, 30*time.Second), 1000)
}

// inFlight bounds what can be overtaken at a time: a lane's messages on their way
// to JetStream.
const inFlight = 4096

// costsOrderAlone allows for at most so many messages out of order without strict
// order, and for none with it, which is the default for replicated streams.
func costsOrderAlone(t *testing.T, f fault, what string, o loadOptions, most int) {
	t.Helper()
	loose := f
	loose.rig.Env = append([]string{loosely}, f.rig.Env...)
	t.Run("without", func(t *testing.T) {
		t.Parallel()
		v := run(t, loose, what+", strict_order off", o)
		require.Zero(t, v.Lost+v.Duplicated+v.Foreign, v)
		require.LessOrEqual(t, v.Inversions, most, v)
	})
	t.Run("by default", func(t *testing.T) {
		t.Parallel()
		survive(t, f, what, o)
	})
}

// connectTo has the bridge connect to a node that suits, given whether it leads
// the stream.
func (r *plainRig) connectTo(suits func(leads bool) bool) {
	r.t.Helper()
	leader := r.cluster.Leader("TELEMETRY")
	var unfit []*peers.TCPProxy
	for i, n := range r.cluster.Nodes {
		if !suits(n == leader) {
			r.natsProxies[i].Down()
			unfit = append(unfit, r.natsProxies[i])
		}
	}
	stored := func() uint64 {
		s, err := r.js.Stream(r.t.Context(), "TELEMETRY")
		if err != nil {
			return 0
		}
		return s.CachedInfo().State.LastSeq
	}
	// The old connections are gone: what is stored now came by a new one.
	from := stored()
	eventually(r.t, func() bool { return stored() > from+1000 }, func() any { return "the bridge does not store" })
	for _, p := range unfit {
		p.Up()
	}
}

// freezeLeader stops the leader for so long; by then another one leads.
func freezeLeader(r *plainRig, d time.Duration) {
	leader := r.cluster.Leader("TELEMETRY")
	leader.Freeze()
	time.Sleep(d) // the fault itself
	leader.Thaw()
	r.cluster.AwaitCurrent("TELEMETRY")
}
