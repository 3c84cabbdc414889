package health

import "time"

// Problem is why a part of a program is not ready, as /readyz shows it.
type Problem struct {
	Component string `json:"component"` // mqtt, nats, leaf, jetstream, streams, lane, leases, registry, limits, broker; database, consumer, quarantine
	Problem   string `json:"problem"`
	Advice    string `json:"advice,omitempty"`
	// Subject is of a message that waits, where that says more.
	Subject string    `json:"subject,omitempty"`
	Since   time.Time `json:"since"`
	Lanes   []string  `json:"lanes,omitempty"`
}
