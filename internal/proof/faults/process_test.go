package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
)

// cut is the one fault of [faults] that the bridge cannot distinguish from another (the kick).
const cut = "connection cut"

// faults returns the process faults, fewer and shorter ones in a short run.
func faults() []proof.Fault {
	times, down := 10, 10*time.Second
	if testrun.Quick() {
		times, down = 3, 2*time.Second
	}
	return []proof.Fault{
		{Name: "bridge killed", Times: times, Redelivers: true, Inject: func(r *proof.Rig) {
			r.Bridge.Kill9()
			r.StartBridge()
			r.AwaitSession()
		}},
		{Name: "bridge stopped", Times: times, Redelivers: true, Inject: func(r *proof.Rig) {
			require.Zero(r.T, r.Bridge.Stop(), "exit code after SIGTERM under load")
			r.StartBridge()
			r.AwaitSession()
		}},
		{Name: "bridge kicked", Times: times, Redelivers: true, Inject: func(r *proof.Rig) {
			r.LogOffset = len(r.Bridge.Log().String())
			r.Broker.Kick(proof.ClientID)
			r.AwaitSession()
		}},
		{Name: cut, Times: times, Rig: proof.RigOptions{MQTTProxy: true}, Redelivers: true, Inject: func(r *proof.Rig) {
			r.LogOffset = len(r.Bridge.Log().String())
			require.Positive(r.T, r.Proxy.Cut())
			r.AwaitSession()
		}},
		{Name: "nats-server killed", Inject: func(r *proof.Rig) {
			r.NATS.Kill9()
			time.Sleep(down) // duration of the fault
			r.NATS.Start()
		}},
		{Name: "nats-server frozen", Inject: func(r *proof.Rig) {
			r.NATS.Freeze()
			time.Sleep(down / 2) // longer than ack_timeout
			r.NATS.Thaw()
		}},
	}
}

// loads returns the loads that devices publish during a fault.
func loads() map[string]proof.LoadOptions {
	all := map[string]proof.LoadOptions{
		"3,000 per second": {Devices: 200, Total: 40_000, Rate: 3000},
		"full speed":       {Devices: 200, Total: 200_000},
		// One device with equal payloads: its messages are indistinguishable.
		"identical": {Devices: 1, Total: 100_000, Rate: 10_000, Identical: true},
	}
	if testrun.Quick() {
		delete(all, "full speed")
		for name, o := range all {
			o.Total /= 8
			all[name] = o
		}
	}
	return all
}

// tellable is how many redelivered messages a bridge can distinguish: somewhat fewer than there
// are packet ids.
const tellable = 60_000

// Every message that mosquitto acknowledged to the publisher is in the stream once and in its
// device's order, for every kind of process and connection fault.
func TestProcessFaults(t *testing.T) {
	t.Parallel()
	window := keepsWindow(t)
	if !window {
		t.Logf("this mosquitto does not keep its in-flight window: at full speed, what makes it redeliver runs with %d messages", tellable)
	}
	for what, all := range loads() {
		for _, f := range faults() {
			o := all
			if testrun.Quick() && f.Redelivers != o.Identical {
				continue // redelivery is hardest to detect if all payloads are equal
			}
			if f.Name == cut && o.Identical {
				continue // the bridge sees it as a kick, which is tested
			}
			if f.Redelivers && o.Rate == 0 && !window {
				o.Total = min(o.Total, tellable)
			}
			t.Run(f.Name+"/"+what, func(t *testing.T) {
				t.Parallel()
				proof.Survive(t, f, what, o)
			})
		}
	}
}
