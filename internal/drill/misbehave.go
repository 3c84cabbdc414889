package drill

import (
	"context"
	"fmt"
)

// misbehavior is one option to misbehave. act runs beside the load and returns when it is
// over or ctx has ended; outcome is asked once everything has settled.
type misbehavior interface {
	act(ctx context.Context)
	outcome() Expectation
}

// Expectation is what a misbehavior should come to, and what it came to.
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

// plural is "1 message", "2 messages".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
