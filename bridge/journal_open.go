package bridge

import (
	"os"
	"strings"
	"time"
)

// JournalOptions describe the journal to open. Dir and ClientID are required.
type JournalOptions struct {
	Dir      string
	ClientID string
	// BootID names the boot of the machine; "": the system's. A journal of another
	// boot is stale.
	BootID string
	// ChangedAt returns when the file was last changed, by whomever; nil: the time
	// of its last status change.
	ChangedAt func(os.FileInfo) time.Time
}

// Opened is what OpenJournal returns.
type Opened struct {
	Journal *Journal
	// MovedTo is where an unusable file was moved to, and Reason why; "" and nil
	// where there was none.
	MovedTo string
	Reason  error
	// Stale says why the deliveries in the file cannot be the latest ones and were
	// forgotten: what is redelivered is then stored again. "": they were not.
	Stale string
}

// beatTolerance is how long after the last sign of life a process may have written to
// its journal: the lane gives one each second.
const beatTolerance = 3 * time.Second

func (o *JournalOptions) setDefaults() {
	if o.BootID == "" {
		if id, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
			o.BootID = strings.TrimSpace(string(id))
		}
	}
	if o.ChangedAt == nil {
		o.ChangedAt = statusChanged
	}
}
