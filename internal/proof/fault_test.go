package proof

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fault is something that goes wrong under load, once or again and again.
type fault struct {
	name   string
	times  int // 0: once
	rig    rigOptions
	strike func(r *plainRig)
	// redelivers: the broker sends again what it saw no PUBACK for.
	redelivers bool
}

// cut is the one fault of [faults] that the bridge cannot tell from another.
const cut = "connection cut"

// faults are fewer and shorter in a short run.
func faults() []fault {
	times, down := 10, 10*time.Second
	if quick() {
		times, down = 3, 2*time.Second
	}
	return []fault{
		{name: "bridge killed", times: times, redelivers: true, strike: func(r *plainRig) {
			r.bridge.Kill9()
			r.startBridge()
			r.awaitSession()
		}},
		{name: "bridge stopped", times: times, redelivers: true, strike: func(r *plainRig) {
			require.Zero(r.t, r.bridge.Stop(), "exit code after SIGTERM under load")
			r.startBridge()
			r.awaitSession()
		}},
		{name: "bridge kicked", times: times, redelivers: true, strike: func(r *plainRig) {
			r.said = len(r.bridge.Log().String())
			r.broker.Kick(clientID)
			r.awaitSession()
		}},
		{name: cut, times: times, rig: rigOptions{MQTTProxy: true}, redelivers: true, strike: func(r *plainRig) {
			r.said = len(r.bridge.Log().String())
			require.Positive(r.t, r.proxy.Cut())
			r.awaitSession()
		}},
		{name: "nats-server killed", strike: func(r *plainRig) {
			r.nats.Kill9()
			time.Sleep(down) // the fault itself: how long it is gone
			r.nats.Start()
		}},
		{name: "nats-server frozen", strike: func(r *plainRig) {
			r.nats.Freeze()
			time.Sleep(down / 2) // longer than ack_timeout
			r.nats.Thaw()
		}},
	}
}

// loads are what the devices publish during the fault.
func loads() map[string]loadOptions {
	all := map[string]loadOptions{
		"3,000 per second": {Devices: 200, Total: 40_000, Rate: 3000},
		"full speed":       {Devices: 200, Total: 200_000},
		// One device: nothing at all tells its messages apart.
		"identical": {Devices: 1, Total: 100_000, Rate: 10_000, Identical: true},
	}
	if quick() {
		for name, o := range all {
			o.Total /= 8
			all[name] = o
		}
	}
	return all
}

// tellable is how many messages a bridge can tell apart when all of them come
// again: somewhat fewer than there are packet ids.
const tellable = 60_000

// What mosquitto acknowledged to the publisher is in the stream, once, in the
// order of its device, whatever was killed, cut or stopped in between.
func TestNothingIsLostDuplicatedOrReordered(t *testing.T) {
	t.Parallel()
	window := keepsWindow(t)
	if !window {
		t.Logf("this mosquitto does not keep its in-flight window: at full speed, what makes it redeliver runs with %d messages", tellable)
	}
	for what, all := range loads() {
		for _, f := range faults() {
			o := all
			if f.name == cut && o.Identical {
				continue // the kick is the same to the bridge
			}
			if f.redelivers && o.Rate == 0 && !window {
				o.Total = min(o.Total, tellable)
			}
			t.Run(f.name+"/"+what, func(t *testing.T) {
				t.Parallel()
				survive(t, f, what, o)
			})
		}
	}
}

// survive puts a load through a fault that is to leave no trace.
func survive(t *testing.T, f fault, what string, o loadOptions) {
	t.Helper()
	v := run(t, f, what, o)
	require.True(t, v.Clean(), v)
}

// run puts a load through a fault and enters the outcome in the report. The load
// comes in as many legs as there are strikes; each strike falls into its leg at a
// random moment, and the next leg begins when the strike is over, so that none
// goes into silence.
func run(t *testing.T, f fault, what string, o loadOptions) verdict {
	t.Helper()
	random := moments(t)
	r := newRig(t, f.rig)
	r.random = random
	o.Addr = r.broker.Addr
	l := startLoad(t, o)
	times := max(f.times, 1)
	for i := range times {
		from, to := i*o.Total/times, (i+1)*o.Total/times
		l.release(to)
		require.True(t, l.await(from+random.IntN((to-from)/2)))
		time.Sleep(time.Duration(random.IntN(int(50 * time.Millisecond)))) // any moment, not just after a PUBACK
		f.strike(r)
	}
	v := r.finish(l)
	outcome.add(f.title(), what, v)
	t.Log(v)
	return v
}

func (f fault) title() string {
	if f.times > 1 {
		return fmt.Sprintf("%s × %d", f.name, f.times)
	}
	return f.name
}
