package proof

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Fault is something that goes wrong under load, once or again and again.
type Fault struct {
	Name   string
	Times  int // 0: once
	Rig    RigOptions
	Inject func(r *Rig)
	// Redelivers means that the broker sends again what it saw no PUBACK for.
	Redelivers bool
}

// Survive puts a load through a fault that is to leave no trace.
func Survive(t *testing.T, f Fault, what string, o LoadOptions) {
	t.Helper()
	v := Run(t, f, what, o)
	require.True(t, v.Clean(), v)
}

// Run puts a load through a fault and enters the outcome in the report. The load
// comes in as many legs as there are faults; each one falls into its leg at a
// random moment, and the next leg begins when the fault is over, so that none
// goes into silence.
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
		time.Sleep(time.Duration(random.IntN(int(50 * time.Millisecond)))) // any moment, not just after a PUBACK
		f.Inject(r)
	}
	v := r.Finish(l)
	Report(f.title(), what, v)
	t.Log(v)
	return v
}

func (f Fault) title() string {
	if f.Times > 1 {
		return fmt.Sprintf("%s × %d", f.Name, f.Times)
	}
	return f.Name
}
