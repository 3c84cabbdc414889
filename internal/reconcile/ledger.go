package reconcile

import (
	"math"
	"slices"
	"sync"
	"time"
)

// fewFindings is the maximum number of findings of each kind that are kept.
const fewFindings = 20

// Ledger records the messages, PUBACKs and copies of a load. Its methods are safe for concurrent
// use: publishers and readers write to it while the load runs.
type Ledger struct {
	mu       sync.Mutex
	devices  []device
	verdict  Verdict // without Lost, which Verdict computes
	missing  int     // PUBACKs without a copy so far
	lastAt   time.Time
	findings []Finding
	found    map[Kind]int
}

type device struct {
	messages            []message
	stored, quarantined int       // copies
	latest              int       // highest sequence number of the first copies; -1: none
	lastAt              time.Time // of the latest first copy
	gap                 time.Duration
}

// message is 16 bytes: an hour at 1,000 per second is 58 MB.
type message struct {
	sends, pubacks, copies uint16
	ackedAt                int64 // ns
}

// New returns a ledger for the given number of devices.
func New(devices int) *Ledger {
	l := &Ledger{devices: make([]device, devices), found: map[Kind]int{}}
	for i := range l.devices {
		l.devices[i].latest = -1
	}
	return l
}

func increment(n *uint16) {
	if *n < math.MaxUint16 {
		*n++
	}
}

// Sent records that a message is about to be published, for the first time or again.
func (l *Ledger) Sent(dev, seq int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := &l.devices[dev]
	for seq >= len(d.messages) {
		d.messages = append(d.messages, message{})
	}
	m := &d.messages[seq]
	if m.sends == 0 {
		l.verdict.Sent++
	}
	increment(&m.sends)
}

// Acked records a PUBACK.
func (l *Ledger) Acked(dev, seq int, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := &l.devices[dev].messages[seq]
	if m.pubacks == 0 {
		l.verdict.Acked++
	}
	increment(&m.pubacks)
	m.ackedAt = at.UnixNano()
	if m.pubacks > m.copies {
		l.missing++
	}
}

// Stored records a copy in a stream, in the order of the stream. A message that was never sent
// counts as foreign.
func (l *Ledger) Stored(dev, seq int, c Copy) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.sent(dev, seq, c)
	if m == nil {
		return
	}
	l.stored(c)
	l.copied(m, dev, seq, c)
	d := &l.devices[dev]
	d.stored++
	if m.copies > 1 {
		return
	}
	if !d.lastAt.IsZero() {
		d.gap = max(d.gap, c.At.Sub(d.lastAt))
	}
	d.lastAt = c.At
	if d.latest > seq {
		l.verdict.Inversions++
		l.find(Finding{Kind: Inverted, Device: dev, Seq: seq, Copy: c, After: d.latest})
		return
	}
	d.latest = seq
}

// Quarantined records a copy in quarantine.
func (l *Ledger) Quarantined(dev, seq int, c Copy) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := l.sent(dev, seq, c); m != nil {
		l.verdict.Quarantined++
		l.devices[dev].quarantined++
		l.copied(m, dev, seq, c)
	}
}

// Foreign records a copy that is not of this load, or that is under the subject of another device.
func (l *Ledger) Foreign(dev, seq int, c Copy) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.foreign(Finding{Device: dev, Seq: seq, Copy: c})
}

// sent returns the message of a copy. If the message was never sent, it records the copy as foreign
// and returns nil.
func (l *Ledger) sent(dev, seq int, c Copy) *message {
	if dev < 0 || dev >= len(l.devices) || seq < 0 || seq >= len(l.devices[dev].messages) {
		l.foreign(Finding{Device: dev, Seq: seq, Copy: c})
		return nil
	}
	return &l.devices[dev].messages[seq]
}

func (l *Ledger) foreign(f Finding) {
	l.stored(f.Copy)
	l.verdict.Foreign++
	f.Kind = Foreign
	l.find(f)
}

func (l *Ledger) stored(c Copy) {
	l.verdict.Stored++
	if !l.lastAt.IsZero() {
		l.verdict.Gap = max(l.verdict.Gap, c.At.Sub(l.lastAt))
	}
	l.lastAt = c.At
}

// copied records one more copy of a message.
func (l *Ledger) copied(m *message, dev, seq int, c Copy) {
	increment(&m.copies)
	switch {
	case m.copies <= m.pubacks:
		l.missing--
	case m.copies > m.sends:
		l.verdict.Duplicated++
		l.find(Finding{Kind: Duplicated, Device: dev, Seq: seq, Copy: c})
	case m.copies > 1:
		l.verdict.Resent++
	}
}

func (l *Ledger) find(f Finding) {
	f.At = f.Copy.At
	l.found[f.Kind]++
	if l.found[f.Kind] <= fewFindings {
		l.findings = append(l.findings, f)
	}
}

// Missing returns the number of PUBACKs that have no copy so far.
func (l *Ledger) Missing() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.missing
}

// Verdict returns the result so far. Missing copies count as lost.
func (l *Ledger) Verdict() Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.verdict
	v.Lost = l.missing
	return v
}

// LongestGap returns the longest time between two stored messages of one device, and the device.
// The device is -1 if no device has two.
func (l *Ledger) LongestGap() (gap time.Duration, dev int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	dev = -1
	for i := range l.devices {
		if g := l.devices[i].gap; g > gap {
			gap, dev = g, i
		}
	}
	return gap, dev
}

// Lost returns the messages that have fewer copies than PUBACKs, ordered by the time of the PUBACK.
func (l *Ledger) Lost() []Finding {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lost []Finding
	for i := range l.devices {
		for seq, m := range l.devices[i].messages {
			for range int(m.pubacks) - int(m.copies) {
				lost = append(lost, Finding{Kind: Lost, Device: i, Seq: seq, At: time.Unix(0, m.ackedAt)})
			}
		}
	}
	slices.SortStableFunc(lost, func(a, b Finding) int { return a.At.Compare(b.At) })
	return lost
}

// Findings returns the first findings of each kind except lost, in the order of the streams.
func (l *Ledger) Findings() []Finding {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.findings)
}

// Device returns the counts of one device: copies stored, copies in quarantine, and PUBACKs without
// a copy.
func (l *Ledger) Device(dev int) (stored, quarantined, missing int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := &l.devices[dev]
	for _, m := range d.messages {
		missing += max(0, int(m.pubacks)-int(m.copies))
	}
	return d.stored, d.quarantined, missing
}
