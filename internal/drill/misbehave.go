package drill

import (
	"context"
	"fmt"
)

// misbehavior is one kind of misbehaving device. act runs in parallel with the load and returns when it
// has finished or ctx has ended. outcome is called after everything has settled.
type misbehavior interface {
	act(ctx context.Context)
	outcome() Expectation
}

// Expectation contains the expected and the observed outcome of a misbehavior.
type Expectation struct {
	Name     string `json:"name"`
	Expected string `json:"expected"`
	Seen     string `json:"seen"`
	OK       bool   `json:"ok"`
}

func (d *drill) misbehaviors() []misbehavior {
	var all []misbehavior
	if d.o.Burst > 0 {
		all = append(all, newBurst(d))
	}
	if d.o.Hijack {
		all = append(all, &hijack{d: d})
	}
	if d.o.Impostor {
		all = append(all, newImpostor(d))
	}
	if d.o.Will {
		all = append(all, &will{d: d})
	}
	return all
}

// plural returns "1 message" or "2 messages".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
