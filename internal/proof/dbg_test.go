package proof

import "testing"

func dbg(t testing.TB, all []stored) {
	first := map[uint64]int{}
	n := 0
	last := -2
	for i, s := range all {
		if f, ok := first[s.message]; ok {
			if i != last+1 {
			n++
			if n < 40 {
				t.Logf("run of dups begins: message %d at %d id %s; first at %d id %s", s.message, i, s.id, f, all[f].id)
			}
			}
			last = i
		} else {
			if last == i-1 && n < 40 {
				t.Logf("run ends before %d: message %d id %s", i, s.message, s.id)
			}
			first[s.message] = i
		}
	}
}
