package reconcile

import (
	"fmt"
	"time"
)

// Verdict is the result of a reconciliation.
type Verdict struct {
	// Sent and Acked count messages, each once even if it was published several times.
	Sent, Acked int
	// Stored is the number of copies in the streams, without quarantine.
	Stored int
	// Lost is the number of PUBACKs without a copy.
	Lost int
	// Duplicated is the number of copies beyond the times that a message was published.
	Duplicated int
	// Resent is the number of additional copies that are explained by a resend of the publisher: to
	// the broker, a resend is a separate message (§4.3.2).
	Resent int
	// Inversions is the number of messages stored after a later message of their device. Only first
	// copies count.
	Inversions int
	// Foreign is the number of copies that are not of this load, or under the subject of another
	// device.
	Foreign int
	// Quarantined is the number of copies in quarantine.
	Quarantined int
	// Gap is the longest time between two stored copies.
	Gap time.Duration
}

// Clean reports whether there are no losses, duplicates, inversions or foreign messages.
func (v Verdict) Clean() bool {
	return v.Lost == 0 && v.Duplicated == 0 && v.Inversions == 0 && v.Foreign == 0
}

// String returns the verdict in one line.
func (v Verdict) String() string {
	return fmt.Sprintf("%8d sent %8d acked %8d stored %6d lost %6d duplicated %6d inverted %4d foreign %4d quarantined %8.1f s gap",
		v.Sent, v.Acked, v.Stored, v.Lost, v.Duplicated, v.Inversions, v.Foreign, v.Quarantined, v.Gap.Seconds())
}

// Kind is the kind of a [Finding].
type Kind string

// The kinds of findings.
const (
	Lost       Kind = "lost"       // acknowledged and not stored
	Duplicated Kind = "duplicated" // stored more often than published
	Inverted   Kind = "inverted"   // stored after a later message of its device
	Foreign    Kind = "foreign"    // not of this load, or under the subject of another device
)

// Finding is one message that violates a rule.
type Finding struct {
	Kind   Kind
	Device int
	Seq    int
	// At is the time of the last PUBACK of a lost message; otherwise the time when the copy was
	// stored.
	At time.Time
	// Copy is the copy that was read; zero for a lost message.
	Copy Copy
	// After is the later message that was stored before an inverted one.
	After int
}

// String describes the finding with the numbers of device and message.
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

// Copy is one copy of a message in a stream.
type Copy struct {
	Subject string
	ID      string // Nats-Msg-Id
	At      time.Time
	Place   uint64 // sequence in the stream
}

// String describes the copy with its stream sequence, subject, message id and time.
func (c Copy) String() string {
	return fmt.Sprintf("at sequence %d under %s, id %s, at %s", c.Place, c.Subject, c.ID, c.At.UTC().Format("15:04:05.000"))
}

// Indistinct returns the verdict on messages with identical payloads, by the number of copies sent,
// acknowledged and stored per device. Their order cannot be checked.
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
