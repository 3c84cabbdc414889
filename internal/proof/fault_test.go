package proof

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fault is something that goes wrong under load, again and again.
type fault struct {
	name   string
	times  int
	strike func(r *plainRig)
	// redelivers: the broker sends again what it saw no PUBACK for.
	redelivers bool
}

// cut is the fault that needs a proxy between bridge and broker.
const cut = "connection cut"

// faults are fewer and shorter in a short run.
func faults() []fault {
	times, down := 10, 10*time.Second
	if testing.Short() {
		times, down = 3, 2*time.Second
	}
	return []fault{
		{"bridge killed", times, func(r *plainRig) {
			r.bridge.Kill9()
			r.startBridge()
			r.awaitSession()
		}, true},
		{"bridge stopped", times, func(r *plainRig) {
			require.Zero(r.t, r.bridge.Stop(), "exit code after SIGTERM under load")
			r.startBridge()
			r.awaitSession()
		}, true},
		{"bridge kicked", times, func(r *plainRig) {
			r.said = len(r.bridge.Log().String())
			r.broker.Kick(clientID)
			r.awaitSession()
		}, true},
		{cut, times, func(r *plainRig) {
			r.said = len(r.bridge.Log().String())
			require.Positive(r.t, r.proxy.Cut())
			r.awaitSession()
		}, true},
		{"nats-server killed", 1, func(r *plainRig) {
			r.nats.Kill9()
			time.Sleep(down) // the fault itself: how long it is away
			r.nats.Start()
		}, false},
		{"nats-server frozen", 1, func(r *plainRig) {
			r.nats.Freeze()
			time.Sleep(down / 2) // longer than ack_timeout
			r.nats.Thaw()
		}, false},
	}
}

// loads are what the devices publish meanwhile.
func loads() map[string]loadOptions {
	all := map[string]loadOptions{
		"3,000 a second": {Devices: 200, Total: 40_000, Rate: 3000},
		"full speed":     {Devices: 200, Total: 200_000},
		// One device: nothing at all tells its messages apart.
		"identical": {Devices: 1, Total: 70_000, Rate: 10_000, Identical: true},
	}
	if testing.Short() {
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
	var table results
	window := keepsWindow(t)
	if !window {
		t.Logf("this mosquitto does not keep its in-flight window: at full speed, what makes it redeliver runs with %d messages", tellable)
	}
	t.Run("under", func(t *testing.T) {
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
					v := run(t, o, f)
					table.add(fmt.Sprintf("%-18s × %2d  %-14s  %v", f.name, f.times, what, v))
					require.True(t, v.clean(), v)
				})
			}
		}
	})
	t.Logf("publisher against stream:\n%s", &table)
}

// run puts a load through a fault. The load comes in as many legs as there are
// strikes; each strike falls into its leg at a random moment, and the next leg
// begins when the strike is over, so that none goes into silence.
func run(t *testing.T, o loadOptions, f fault) verdict {
	random := moments(t)
	r := newPlainRig(t, f.name == cut)
	o.Addr = r.broker.Addr
	l := startLoad(t, o)
	for i := range f.times {
		from, to := i*o.Total/f.times, (i+1)*o.Total/f.times
		l.release(to)
		require.True(t, l.await(from+random.IntN((to-from)/2)))
		time.Sleep(time.Duration(random.IntN(int(50 * time.Millisecond)))) // any moment, not just after a PUBACK
		f.strike(r)
	}
	return r.finish(l)
}

// results are lines from tests that run side by side.
type results struct {
	mu    sync.Mutex
	lines []string
}

func (r *results) add(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
}

func (r *results) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "\n")
}
