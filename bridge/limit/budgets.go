package limit

import (
	"hash/maphash"
	"math"
	"sync/atomic"
	"time"

	"mqtt-nats-bridge/bridge/verdict"
)

// Budgets is a table of devices or tenants with the state of their rate limits and their counts.
// All lanes share one table of each kind. Safe for concurrent use.
//
// The table is sharded. Each shard is an open-addressed index of 4 bytes per slot over entries of
// 80 bytes in chunks. A million devices cost less than 96 bytes each, and nothing is moved when the
// table grows. A device is identified by a 64-bit hash with a secret seed. A collision among a
// million devices has a probability of 3 in 10^8 and cannot be provoked.
type Budgets struct {
	credits laneCredits // the lanes' credits on plain topics

	kinds   kinds
	seed    maphash.Seed
	limit   int          // maximum number of devices per shard
	idle    atomic.Int64 // ns
	shards  [deviceShards]deviceShard
	count   atomic.Int64
	evicted atomic.Uint64

	tenants *tenantSums // nil: not summed
}

// BudgetOptions bound the size of the table.
type BudgetOptions struct {
	Max  int           // maximum number of devices; the longest idle are removed first. 0: 2,000,000
	Idle time.Duration // a device not seen for this long is removed. 0: 24 h
	// Tenants is the number of tenants that [Budgets.ByTenant] lists by name; 0 disables the list.
	Tenants int
}

// NewBudgets returns an empty table.
func NewBudgets(o BudgetOptions) *Budgets {
	if o.Max <= 0 {
		o.Max = 2_000_000
	}
	if o.Idle <= 0 {
		o.Idle = 24 * time.Hour
	}
	d := &Budgets{seed: maphash.MakeSeed(), limit: max(o.Max/deviceShards, 1)}
	d.credits.byLane = map[*CatchUp]int64{}
	d.SetIdle(o.Idle)
	if o.Tenants > 0 {
		d.tenants = newTenantSums(o.Tenants)
	}
	return d
}

// SetIdle changes the time after which an idle device is removed. Safe for concurrent use.
func (d *Budgets) SetIdle(idle time.Duration) { d.idle.Store(int64(idle)) }

// Ref refers to an entry between a message's arrival and its settlement. If the entry has another
// hash by then, the device was removed.
type Ref struct {
	Hash    uint64
	entry   uint32
	silence uint16 // seconds since the previous message arrived
}

// LongestCredit returns how far back the tenants' budgets reach on plain topics, in ns.
func (d *Budgets) LongestCredit() int64 { return d.credits.longest.Load() }

// Hash hashes with the table's secret seed.
func (d *Budgets) Hash(b []byte) uint64 { return maphash.Bytes(d.seed, b) }

// Len returns the number of devices in the table.
func (d *Budgets) Len() int { return int(d.count.Load()) }

// Evicted returns the number of devices removed so far.
func (d *Budgets) Evicted() uint64 { return d.evicted.Load() }

// Receive counts a message of the device named tenant/device that arrived at wallTime (ns since the
// epoch).
func (d *Budgets) Receive(name []byte, wallTime int64) Ref {
	r, _ := d.ReceiveKind(name, wallTime, 0, 0)
	return r
}

// ReceiveKind is Receive for a message with a subject of that kind; 0 means no subject. It reports
// false if the device would exceed the limit on kinds.
func (d *Budgets) ReceiveKind(name []byte, wallTime int64, kind uint64, limit int) (_ Ref, ok bool) {
	hash := maphash.Bytes(d.seed, name)
	s := d.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	n, known := s.find(hash)
	if !known {
		n = d.insert(s, hash, name, wallTime)
	}
	e := s.at(n)
	ok = true
	if kind != 0 {
		e.kinds, ok = d.kinds.with(e.kinds, kind, limit)
	}
	silence := min(max(wallTime/1e9-int64(e.seen), 0), math.MaxUint16)
	e.received++
	e.seen = uint32(wallTime / 1e9)
	if e.clock > wallTime+int64(farAhead) {
		// The bridge's own clock was set back. Reset the limits: otherwise nothing would be
		// admitted until the clock reaches the old time again.
		e.clock, e.tat = 0, 0
		delete(s.histories, n)
		if e.rejects != 0 {
			s.rejects[e.rejects-1].quarantine, s.rejects[e.rejects-1].clock = 0, 0
		}
	}
	return Ref{Hash: hash, entry: n, silence: uint16(silence)}, ok
}

// Take charges a message to a limit whose messages arrive in order: a device's, or a tenant's on
// plain topics. It reports whether the message conforms. now is the limiter's clock in ns: the time
// at which the broker received the message if known, otherwise the time of arrival. The clock never
// runs backward, so out-of-order messages gain no budget.
//
// A device's time goes back if the device moves to a broker node whose clock is behind. Until that
// node catches up, the limiter's clock advances by the time between arrivals, so the device keeps
// its rate. A step of farAhead or more means that a clock was set back: the limiter follows it and
// keeps what was spent.
func (d *Budgets) Take(r Ref, m Meter, now, credit int64) bool {
	if m.interval == 0 {
		return true
	}
	e, s := d.lock(r)
	if e == nil {
		return true
	}
	defer s.mu.Unlock()
	switch back := e.clock - now; {
	case back >= int64(farAhead):
		e.clock, e.tat = now, e.tat-back
	case back >= int64(maxAhead):
		now = e.clock + int64(r.silence)*1e9
	}
	now = max(e.clock, now)
	e.convert(m, now)
	e.clock = now
	var ok bool
	e.tat, ok = m.take(e.tat, now, credit)
	return ok
}

// TakeDated charges a tenant for a message that the broker received at the time at (ns). A tenant's
// messages come through several lanes, and a lane that is catching up is behind the others.
// Messages in order are counted exactly; all messages are counted by the time at which they were
// sent. See history.
func (d *Budgets) TakeDated(r Ref, m Meter, at int64) bool {
	if m.interval == 0 {
		return true
	}
	e, s := d.lock(r)
	if e == nil {
		return true
	}
	defer s.mu.Unlock()
	h := s.histories[r.entry]
	if h == nil || e.rateID != m.rateID {
		// Counts are meaningless under another rate.
		h = new(history)
		if s.histories == nil {
			s.histories = map[uint32]*history{}
		}
		s.histories[r.entry] = h
	}
	e.convert(m, max(e.clock, at))
	tat, inOrder := e.tat, at >= e.clock
	if inOrder {
		var ok bool
		if tat, ok = m.take(tat, at, 0); !ok {
			return false
		}
	}
	if !h.take(m, at) {
		return false
	}
	if inOrder {
		e.tat, e.clock = tat, at
	}
	return true
}

// convert converts the TAT to the rate of m if it was counted with another rate.
func (e *device) convert(m Meter, now int64) {
	if e.rateID != m.rateID {
		e.tat, e.rateID = m.convert(e.rateID, e.tat, e.clock, now), m.rateID
	}
}

// Refund returns the charge of Take for a message that another limit rejected.
func (d *Budgets) Refund(r Ref, m Meter) {
	if e, s := d.lock(r); e != nil {
		e.tat -= m.interval
		s.mu.Unlock()
	}
}

// Stored counts a stored message.
func (d *Budgets) Stored(r Ref) {
	if e, s := d.lock(r); e != nil {
		e.stored++
		s.mu.Unlock()
	}
}

// quarantineUnit is the number of bytes in quarantine that count as one message.
const quarantineUnit = 1 << 10

// Reject counts a rejection and reports whether the device's quarantine bound allows the copy. A
// copy of several units is allowed if one unit is available; all of them are charged.
func (d *Budgets) Reject(r Ref, reason verdict.Reason, quarantine Meter, now int64, size int) bool {
	e, s := d.lock(r)
	if e == nil {
		return true
	}
	defer s.mu.Unlock()
	if e.rejects == 0 {
		if n := len(s.freeRejects); n > 0 {
			e.rejects = s.freeRejects[n-1] + 1
			s.freeRejects = s.freeRejects[:n-1]
			s.rejects[e.rejects-1] = rejections{}
		} else {
			s.rejects = append(s.rejects, rejections{})
			e.rejects = uint32(len(s.rejects))
		}
	}
	x := &s.rejects[e.rejects-1]
	x.by[reason]++
	if x.rateID != quarantine.rateID {
		x.quarantine, x.rateID = quarantine.convert(x.rateID, x.quarantine, 0, now), quarantine.rateID
	}
	if x.clock-now >= int64(farAhead) {
		x.quarantine, x.clock = now, now // the broker's clock was set back; see Take
	}
	x.clock = max(x.clock, now)
	var ok bool
	if x.quarantine, ok = quarantine.take(x.quarantine, now, 0); ok {
		x.quarantine += int64(max(size/quarantineUnit, 1)-1) * quarantine.interval
	}
	return ok
}
