package links

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
)

// forgetful returns rig options with a duplicate window of two seconds.
func forgetful(cluster bool) proof.RigOptions {
	return proof.RigOptions{NATSProxy: true, Cluster: cluster, Env: []string{"BRIDGE_STREAMS_DUPLICATE_WINDOW=2s"}}
}

// JetStream forgets ids after the duplicate window. An outage lasts longer, and the PubAcks of
// stored messages were lost. None of these messages is stored twice.
func TestOutageLongerThanTheDuplicateWindow(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the outage is longer than the window")
	}
	const away = 6 * time.Second // three windows
	faults := map[string]func(*proof.Rig){
		"answers lost, then unreachable": func(r *proof.Rig) {
			for _, p := range r.NATSProxies {
				p.Impair(peers.Impairment{}, peers.Impairment{Vanish: true})
			}
			time.Sleep(time.Second) // messages sent now are stored, but their PubAcks are lost
			for _, p := range r.NATSProxies {
				p.Down()
			}
			time.Sleep(away) // duration of the outage
			for _, p := range r.NATSProxies {
				p.Mend()
				p.Up()
			}
		},
		"bridge frozen": func(r *proof.Rig) {
			r.Bridge.Freeze()
			time.Sleep(away) // duration of the outage
			r.Bridge.Thaw()
		},
		"nats-server killed": func(r *proof.Rig) {
			servers := []*peers.NATSProcess{r.NATS}
			if r.Cluster != nil {
				servers = r.Cluster.Nodes
			}
			for _, s := range servers {
				s.Kill9()
			}
			time.Sleep(away) // duration of the outage
			for _, s := range servers {
				s.Start()
			}
		},
	}
	for name, inject := range faults {
		for _, cluster := range []bool{false, true} {
			if (cluster || name != "bridge frozen") && testrun.Quick() {
				continue // BRIDGE_FAULTS=1 runs all of them, on three nats-servers too
			}
			title := name
			if cluster {
				title = "R3: " + name
			}
			t.Run(title, func(t *testing.T) {
				t.Parallel()
				o := proof.LoadOptions{Devices: 100, Rate: 2000, Total: 30_000}
				f := proof.Fault{Name: title + ", longer than the duplicate window", Times: 2, Rig: forgetful(cluster), Inject: inject}
				v := proof.Run(t, f, "2,000 per second", o)
				require.True(t, v.Clean(), v)
			})
		}
	}
}
