package proof

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Fault is a fault that is injected under load, once or repeatedly.
type Fault struct {
	Name   string
	Times  int // 0: once
	Rig    RigOptions
	Inject func(r *Rig)
	// Redelivers means that the broker redelivers unacknowledged messages.
	Redelivers bool
}

// Survive runs a load with a fault, and requires that the fault has no effect on the stored
// messages.
func Survive(t *testing.T, f Fault, what string, o LoadOptions) {
	t.Helper()
	v := Run(t, f, what, o)
	require.True(t, v.Clean(), v)
}

// Run runs a load with a fault and adds the verdict to the report. The load has one section per
// injection. Each fault is injected at a random moment of its section, and the next section begins
// when the fault is over, so that every fault hits a running load.
func Run(t *testing.T, f Fault, what string, o LoadOptions) Verdict {
	t.Helper()
	random := Random(t)
	r := NewRig(t, f.Rig)
	r.Random = random
	o.Addr = r.Broker.Addr
	l := StartLoad(t, o)
	times := max(f.Times, 1)
	for i := range times {
		from, to := i*o.Total/times, (i+1)*o.Total/times
		l.Release(to)
		require.True(t, l.Await(from+random.IntN((to-from)/2)))
		time.Sleep(time.Duration(random.IntN(int(50 * time.Millisecond)))) // a random moment, not just after a PUBACK
		f.Inject(r)
	}
	v := r.Finish(l)
	title := f.Name
	if f.Times > 1 {
		title = fmt.Sprintf("%s × %d", f.Name, f.Times)
	}
	Report(title, what, v)
	t.Log(v)
	return v
}
