package proof

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// report collects the verdicts on all loads, from parallel tests.
type report struct {
	mu   sync.Mutex
	rows []row
}

type row struct {
	fault, load string
	verdict     Verdict
}

// String returns a Markdown table, ordered by fault, for docs/faults.md.
func (r *report) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.rows) == 0 {
		return ""
	}
	rows := slices.Clone(r.rows)
	slices.SortFunc(rows, func(a, b row) int { return strings.Compare(a.fault+"\x00"+a.load, b.fault+"\x00"+b.load) })
	wide, load := len("fault"), len("load")
	for _, row := range rows {
		wide, load = max(wide, len(row.fault)), max(load, len(row.load))
	}
	var b strings.Builder
	line := func(cells ...any) {
		fmt.Fprintf(&b, fmt.Sprintf("| %%-%ds | %%-%ds | %%8v | %%8v | %%8v | %%5v | %%10v | %%10v | %%11v | %%9v |\n", wide, load), cells...)
	}
	line("fault", "load", "sent", "acked", "stored", "lost", "duplicated", "inversions", "quarantined", "gap s")
	line("---", "---", "---:", "---:", "---:", "---:", "---:", "---:", "---:", "---:")
	for _, row := range rows {
		v := row.verdict
		line(row.fault, row.load, v.Sent, v.Acked, v.Stored, v.Lost, v.Duplicated, v.Inversions, v.Quarantined, fmt.Sprintf("%.1f", v.Gap.Seconds()))
	}
	return b.String()
}
