package journal

import (
	"math/rand/v2"
	"os"
	"strings"
	"time"
)

// Options configure Open. Dir and ClientID are required.
type Options struct {
	Dir      string
	ClientID string
	// BootID identifies the boot of the machine; "" means the system's. A journal of another boot
	// is stale.
	BootID string
	// ChangedAt returns when any process last changed the file; nil means the file's last status
	// change.
	ChangedAt func(os.FileInfo) time.Time
	// Epoch returns the epoch of the numbers, of which 16 bits are used; nil means a random one.
	// The simulation passes its own, so that a schedule can be repeated.
	Epoch func() uint64
}

// Opened is the result of [Open].
type Opened struct {
	Journal *Journal
	// MovedTo is the path to which an unusable file was moved, and Reason is what was wrong with
	// it. They are "" and nil if the file was usable.
	MovedTo string
	Reason  error
	// Stale is the reason why the deliveries in the file may be outdated and were discarded; "" if
	// they were not. Redelivered messages are then stored again.
	Stale string
}

// beatTolerance is how long after its last Beat a process may write to its journal. The lane calls
// Beat once per second.
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
	if o.Epoch == nil {
		o.Epoch = rand.Uint64
	}
}
