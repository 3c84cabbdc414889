package reconcile

import (
	"fmt"
	"time"
)

// Verdict is what became of a load.
type Verdict struct {
	// Sent and Acked are messages, each counted once however often it was published.
	Sent, Acked int
	// Stored is every copy that was read from the streams, quarantine left out.
	Stored int
	// Lost is how many PUBACKs have no copy.
	Lost int
	// Duplicated is how many copies are more than the publisher sent.
	Duplicated int
	// Resent is how many further copies a resend of the publisher explains: to the
	// broker, a resend is a message of its own (§4.3.2).
	Resent int
	// Inversions is how many messages were stored after a later one of their device;
	// further copies do not count.
	Inversions int
	// Foreign is how many copies are not of this load, or under another's subject.
	Foreign int
	// Quarantined is how many copies are in quarantine.
	Quarantined int
	// Gap is the longest time between two stored copies.
	Gap time.Duration
}

// Clean reports whether nothing went wrong.
func (v Verdict) Clean() bool {
	return v.Lost == 0 && v.Duplicated == 0 && v.Inversions == 0 && v.Foreign == 0
}

// String is the verdict in one line.
func (v Verdict) String() string {
	return fmt.Sprintf("%8d sent %8d acked %8d stored %6d lost %6d duplicated %6d inverted %4d foreign %4d quarantined %8.1f s gap",
		v.Sent, v.Acked, v.Stored, v.Lost, v.Duplicated, v.Inversions, v.Foreign, v.Quarantined, v.Gap.Seconds())
}

// Kind is what a [Finding] is about.
type Kind string

// The kinds of findings.
const (
	Lost       Kind = "lost"       // acknowledged and not stored
	Duplicated Kind = "duplicated" // stored once more than published
	Inverted   Kind = "inverted"   // stored after a later message of its device
	Foreign    Kind = "foreign"    // not of this load, or under another's subject
)

// Finding is one message that something is wrong with.
type Finding struct {
	Kind   Kind
	Device int
	Seq    int
	// At is when the last PUBACK came of a lost message, else when the copy was stored.
	At time.Time
	// Copy is what was read; zero for a lost message.
	Copy Copy
	// After is the later message that was stored before an inverted one.
	After int
}

// String names the message by numbers; see [Ledger.Findings].
func (f Finding) String() string {
	at := f.At.UTC().Format("15:04:05.000")
	switch f.Kind {
	case Lost:
		return fmt.Sprintf("lost: message %d of device %d, acknowledged at %s", f.Seq, f.Device, at)
	case Inverted:
		return fmt.Sprintf("inverted: message %d of device %d, after %d, %v", f.Seq, f.Device, f.After, f.Copy)
	default:
		return fmt.Sprintf("%s: message %d of device %d, %v", f.Kind, f.Seq, f.Device, f.Copy)
	}
}

// Copy is where a message was read.
type Copy struct {
	Subject string
	ID      string // Nats-Msg-Id
	At      time.Time
	Place   uint64 // sequence in the stream
}

// String names stream sequence, subject and message id.
func (c Copy) String() string {
	return fmt.Sprintf("at place %d under %s, id %s, at %s", c.Place, c.Subject, c.ID, c.At.UTC().Format("15:04:05.000"))
}

// Indistinct is the verdict on messages that cannot be told apart, by device: how many
// copies were sent, acknowledged and stored. Order says nothing here.
func Indistinct[D comparable](sent, acked, stored map[D]int) Verdict {
	var v Verdict
	for d, n := range stored {
		v.Stored += n
		if _, ours := sent[d]; !ours {
			v.Foreign += n
		}
	}
	for d := range sent {
		v.Sent, v.Acked = v.Sent+sent[d], v.Acked+acked[d]
		v.Lost += max(0, acked[d]-stored[d])
		v.Duplicated += max(0, stored[d]-sent[d])
	}
	return v
}
