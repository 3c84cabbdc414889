package journal

import (
	"os"
	"strings"
	"time"
)

// Options describe the journal to open. Dir and ClientID are required.
type Options struct {
	Dir      string
	ClientID string
	// BootID identifies the boot of the machine; "": the system's. A journal of
	// another boot is stale.
	BootID string
	// ChangedAt returns when any process last changed the file; nil: the time of its
	// last status change.
	ChangedAt func(os.FileInfo) time.Time
}

// Opened is the result of [Open].
type Opened struct {
	Journal *Journal
	// MovedTo is the path to which an unusable file was moved, and Reason what is
	// wrong with it; "" and nil if there was none.
	MovedTo string
	Reason  error
	// Stale is why the deliveries in the file cannot be the latest ones and were
	// forgotten: redelivered messages are then stored again. "": they were not.
	Stale string
}

// beatTolerance is how long after its last Beat a process may have written to its
// journal: the lane calls Beat once per second.
const beatTolerance = 3 * time.Second

func (o *Options) setDefaults() {
	if o.BootID == "" {
		if id, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
			o.BootID = strings.TrimSpace(string(id))
		}
	}
	if o.ChangedAt == nil {
		o.ChangedAt = statusChanged
	}
}
