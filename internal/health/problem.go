package health

import (
	"slices"
	"time"
)

// Problem is the reason why a part of a program is not ready, as /readyz shows it.
type Problem struct {
	Component string `json:"component"` // mqtt, nats, leaf, jetstream, streams, lane, leases, registry, limits, broker; database, consumer, quarantine
	Problem   string `json:"problem"`
	Advice    string `json:"advice,omitempty"`
	// Subject is the subject of a waiting message, if it helps to find the cause.
	Subject string    `json:"subject,omitempty"`
	Since   time.Time `json:"since"`
	Lanes   []string  `json:"lanes,omitempty"`
}

// Merge adds p to all. If all already contains the same problem, that one gets p's lanes and the
// earlier start of the two.
func Merge(all []Problem, p Problem) []Problem {
	i := slices.IndexFunc(all, func(is Problem) bool { return is.Component == p.Component && is.Problem == p.Problem })
	if i < 0 {
		return append(all, p)
	}
	all[i].Lanes = append(all[i].Lanes, p.Lanes...)
	if p.Since.Before(all[i].Since) {
		all[i].Since = p.Since
	}
	return all
}
