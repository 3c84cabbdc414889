package limit

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mqtt-nats-bridge/bridge/verdict"
)

// Budgets is a table of devices, or of tenants: the state of each one's rate limit
// and its counts. All lanes share one table of each kind. Safe for concurrent use.
//
// The table is sharded; each shard is an open-addressed index of 4 bytes over entries
// of 80 bytes in chunks, so that a million devices cost less than 96 bytes each
// and nothing is moved when it grows. A device is identified by a 64-bit hash with a
// secret seed: a collision among a million has a probability of 3 in 10^8, and nobody
// can provoke one.
type Budgets struct {
	// Arrears is how far back budgets reach on plain topics just now.
	arrears arrears

	kinds  kinds
	seed   maphash.Seed
	limit  int          // devices at most
	idle   atomic.Int64 // ns
	shards [deviceShards]deviceShard
	count  atomic.Int64
	evict  atomic.Uint64

	tenants *tenantSums // nil: not summed up
}

// BudgetOptions bound the size of the table.
type BudgetOptions struct {
	Max  int           // devices; the longest idle go first. 0: 2,000,000
	Idle time.Duration // a device not seen for that long is forgotten; 0: 24 h
	// Tenants is how many tenants [Budgets.ByTenant] lists by name; 0: it lists nothing.
	Tenants int
}

const (
	deviceShards = 64
	// nameBytes is how much of a device's tenant/device name lies in its
	// entry; longer names are kept aside and cost their length.
	nameBytes = 24
	// maxName is how much is kept of a name at most: a common name may be of any
	// length.
	maxName    = 1 << 10
	chunkShift = 6
	chunkSize  = 1 << chunkShift
)

// device is an entry: 80 bytes.
type device struct {
	hash     uint64
	tat      int64 // of the rate limit
	clock    int64 // latest time the limit ran on, ns since the epoch; see take
	received uint64
	stored   uint64
	seen     uint32          // when the latest message came, s since the epoch
	rejects  uint32          // 1 + index of its rejections; 0: none so far
	name     [nameBytes]byte // or, of a long one, where it lies in the shard's names
	nameLen  uint8           // nameLong: kept aside
	used     bool
	rateID   uint16 // of the rate that tat was counted by; 0: of none
	kinds    uint32 // the set of subjects that it has published under
}

const nameLong = 255

// rejections are kept for devices that had any.
type rejections struct {
	by         [verdict.Count]uint64
	quarantine int64  // TAT of the bound on its quarantined messages
	clock      int64  // latest time that it ran on
	rateID     uint16 // of that bound
}

type deviceShard struct {
	mu      sync.Mutex
	index   []uint32 // 1 + entry number; 0: free
	chunks  []*[chunkSize]device
	entries uint32 // handed out so far
	free    []uint32
	used    int
	hand    uint32 // of the sweep
	rejects []rejections
	spare   []uint32 // free in rejects
	names   []byte   // the long ones, one behind the other
	dead    int      // bytes of names that nobody has any more
	// histories are those of entries that takeDated has charged.
	histories map[uint32]*history
	_         [16]byte // keeps the locks of two shards on different cache lines
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
	d.SetIdle(o.Idle)
	if o.Tenants > 0 {
		d.tenants = newTenantSums(o.Tenants)
	}
	return d
}

// SetIdle changes after how long a device that was not seen is forgotten. Safe for
// concurrent use.
func (d *Budgets) SetIdle(idle time.Duration) { d.idle.Store(int64(idle)) }

// Ref names an entry for the time between a message's arrival and its
// settlement. The hash reports whether the entry is still that device's.
type Ref struct {
	Hash    uint64
	entry   uint32
	known   bool
	silence uint16 // seconds since the message before it arrived
}

// LongestCredit is how far back the tenants' budgets reach on plain topics, in ns.
func (d *Budgets) LongestCredit() int64 { return d.arrears.longest.Load() }

// hashOf hashes with the table's secret seed.
func (d *Budgets) Hash(b []byte) uint64 { return maphash.Bytes(d.seed, b) }

func (d *Budgets) shard(hash uint64) *deviceShard { return &d.shards[hash>>(64-6)] }

// Len is the number of devices in the table.
func (d *Budgets) Len() int { return int(d.count.Load()) }

// Evicted counts the devices forgotten so far.
func (d *Budgets) Evicted() uint64 { return d.evict.Load() }

// Receive counts a message of the device named tenant/device that came at
// wallTime (ns since the epoch).
func (d *Budgets) Receive(name []byte, wallTime int64) Ref {
	r, _ := d.ReceiveKind(name, wallTime, 0, 0)
	return r
}

// ReceiveKind is receive for a message under a subject of that kind, 0 for one
// without. It reports false where that is one kind more than the limit allows.
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
		// The bridge's own clock was set back. The limits begin anew:
		// they would stand still until the old time has come again.
		e.clock, e.tat = 0, 0
		delete(s.histories, n)
		if e.rejects != 0 {
			s.rejects[e.rejects-1].quarantine, s.rejects[e.rejects-1].clock = 0, 0
		}
	}
	return Ref{Hash: hash, entry: n, known: true, silence: uint16(silence)}, ok
}

// Take charges a message to a limit whose messages come in order: a device's, or a
// tenant's on plain topics, where the time is that of arrival. now is the limiter's
// clock in ns: when the broker received the message, where that is known. The clock
// does not run backward, so that no sender gains budget by messages out of order.
//
// A device's time goes back where it moves to a broker node whose clock is behind
// the last one's. Until that has caught up, the limiter's clock advances by the time
// between arrivals, so that the device keeps its rate. After a step of farAhead or
// more, which is a clock set back, the limiter follows with what was spent.
func (d *Budgets) Take(r Ref, m Meter, now, credit int64) bool {
	if m.interval == 0 {
		return true
	}
	e, unlock := d.lock(r)
	if e == nil {
		return true
	}
	defer unlock.Unlock()
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

// TakeDated charges a message that the broker received at the time at (ns) to a
// tenant, whose messages come through several lanes: any of them may be behind the
// others for as long as it catches up. What comes in order is counted exactly, and
// everything by the time it was sent; see [history].
func (d *Budgets) TakeDated(r Ref, m Meter, at int64) bool {
	if m.interval == 0 {
		return true
	}
	e, unlock := d.lock(r)
	if e == nil {
		return true
	}
	defer unlock.Unlock()
	s := d.shard(r.Hash)
	h := s.histories[r.entry]
	if h == nil || e.rateID != m.rateID {
		// Counts mean nothing under another rate.
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

// convert makes the TAT one of m, where it was counted by another rate.
func (e *device) convert(m Meter, now int64) {
	if e.rateID != m.rateID {
		e.tat, e.rateID = m.convert(e.rateID, e.tat, e.clock, now), m.rateID
	}
}

// Refund gives back what take charged to a message that was not accepted after
// all.
func (d *Budgets) Refund(r Ref, m Meter) {
	if e, unlock := d.lock(r); e != nil {
		e.tat -= m.interval
		unlock.Unlock()
	}
}

func (d *Budgets) Stored(r Ref) {
	if e, unlock := d.lock(r); e != nil {
		e.stored++
		unlock.Unlock()
	}
}

// quarantineUnit is how many bytes in quarantine count as a message.
const quarantineUnit = 1 << 10

// Reject counts a rejection and reports whether the device's quarantine bound
// allows it to be stored. A copy of several units may be stored where there is room
// for one, and the device has that much less from then on.
func (d *Budgets) Reject(r Ref, why verdict.Reason, quarantine Meter, now int64, size int) bool {
	e, unlock := d.lock(r)
	if e == nil {
		return true
	}
	defer unlock.Unlock()
	s := d.shard(r.Hash)
	if e.rejects == 0 {
		if n := len(s.spare); n > 0 {
			e.rejects = s.spare[n-1] + 1
			s.spare = s.spare[:n-1]
			s.rejects[e.rejects-1] = rejections{}
		} else {
			s.rejects = append(s.rejects, rejections{})
			e.rejects = uint32(len(s.rejects))
		}
	}
	x := &s.rejects[e.rejects-1]
	x.by[why]++
	if x.rateID != quarantine.rateID {
		x.quarantine, x.rateID = quarantine.convert(x.rateID, x.quarantine, 0, now), quarantine.rateID
	}
	if x.clock-now >= int64(farAhead) {
		x.quarantine, x.clock = now, now // the broker's clock was set back, see take
	}
	x.clock = max(x.clock, now)
	var ok bool
	if x.quarantine, ok = quarantine.take(x.quarantine, now, 0); ok {
		x.quarantine += int64(max(size/quarantineUnit, 1)-1) * quarantine.interval
	}
	return ok
}

// lock finds r's entry and returns it with its shard locked, or nil and nothing
// locked where the device was forgotten in between.
func (d *Budgets) lock(r Ref) (*device, *sync.Mutex) {
	if !r.known {
		return nil, nil
	}
	s := d.shard(r.Hash)
	s.mu.Lock()
	if r.entry < s.entries {
		if e := s.at(r.entry); e.used && e.hash == r.Hash {
			return e, &s.mu
		}
	}
	s.mu.Unlock()
	return nil, nil
}

func (s *deviceShard) at(n uint32) *device {
	return &s.chunks[n>>chunkShift][n&(chunkSize-1)]
}

// find looks a hash up.
func (s *deviceShard) find(hash uint64) (uint32, bool) {
	if len(s.index) == 0 {
		return 0, false
	}
	mask := uint32(len(s.index) - 1)
	for i := uint32(hash) & mask; ; i = (i + 1) & mask {
		n := s.index[i]
		if n == 0 {
			return 0, false
		}
		if s.at(n-1).hash == hash {
			return n - 1, true
		}
	}
}

// insert adds a device that is not in the table.
func (d *Budgets) insert(s *deviceShard, hash uint64, name []byte, wallTime int64) uint32 {
	d.sweep(s, wallTime)
	if 4*(s.used+1) > 3*len(s.index) {
		s.rehash(max(2*len(s.index), 16))
	}
	var n uint32
	if k := len(s.free); k > 0 {
		n = s.free[k-1]
		s.free = s.free[:k-1]
	} else {
		n = s.entries
		if n>>chunkShift == uint32(len(s.chunks)) {
			s.chunks = append(s.chunks, new([chunkSize]device))
		}
		s.entries++
	}
	e := s.at(n)
	*e = device{hash: hash, used: true, seen: uint32(wallTime / 1e9)}
	name = name[:min(len(name), maxName)]
	if len(name) <= nameBytes {
		e.nameLen = uint8(copy(e.name[:], name))
	} else {
		s.keepName(e, name)
	}
	s.link(hash, n)
	s.used++
	d.count.Add(1)
	return n
}

func (s *deviceShard) link(hash uint64, n uint32) {
	mask := uint32(len(s.index) - 1)
	i := uint32(hash) & mask
	for s.index[i] != 0 {
		i = (i + 1) & mask
	}
	s.index[i] = n + 1
}

func (s *deviceShard) rehash(size int) {
	s.index = make([]uint32, size)
	for n := range s.entries {
		if e := s.at(n); e.used {
			s.link(e.hash, n)
		}
	}
}

// sweep looks at two entries and forgets them where they are idle; where the
// shard is full it forgets the longest idle of eight.
func (d *Budgets) sweep(s *deviceShard, wallTime int64) {
	if s.entries == 0 {
		return
	}
	for range 2 {
		n := s.step()
		if e := s.at(n); e.used && wallTime-int64(e.seen)*1e9 > d.idle.Load() {
			d.forget(s, n)
		}
	}
	if s.used < d.limit {
		return
	}
	oldest, found := uint32(0), false
	for range 8 {
		n := s.step()
		if e := s.at(n); e.used && (!found || e.seen < s.at(oldest).seen) {
			oldest, found = n, true
		}
	}
	if found {
		d.forget(s, oldest)
	}
}

func (s *deviceShard) step() uint32 {
	s.hand++
	if s.hand >= s.entries {
		s.hand = 0
	}
	return s.hand
}

// forget removes entry n.
func (d *Budgets) forget(s *deviceShard, n uint32) {
	e := s.at(n)
	mask := uint32(len(s.index) - 1)
	i := uint32(e.hash) & mask
	for s.index[i] != n+1 {
		i = (i + 1) & mask
	}
	// Deletion from an open-addressed table: what follows in the same run
	// moves up where its place allows.
	for j := i; ; {
		s.index[i] = 0
		for {
			j = (j + 1) & mask
			if s.index[j] == 0 {
				goto unlinked
			}
			home := uint32(s.at(s.index[j]-1).hash) & mask
			if (j-home)&mask >= (j-i)&mask {
				break
			}
		}
		s.index[i] = s.index[j]
		i = j
	}
unlinked:
	if d.tenants != nil {
		d.tenants.forget(s, n)
	}
	delete(s.histories, n)
	if e.rejects != 0 {
		s.spare = append(s.spare, e.rejects-1)
	}
	if e.nameLen == nameLong {
		s.dead += int(binary.LittleEndian.Uint32(e.name[4:]))
	}
	*e = device{}
	s.free = append(s.free, n)
	s.used--
	d.count.Add(-1)
	d.evict.Add(1)
}

// keepName puts a long name behind the others; where half of them are dead it
// moves the living together first. e is not in use yet.
func (s *deviceShard) keepName(e *device, name []byte) {
	if 2*s.dead > len(s.names) {
		living := make([]byte, 0, len(s.names)-s.dead+len(name))
		for i := range s.entries {
			if other := s.at(i); other != e && other.used && other.nameLen == nameLong {
				at := len(living)
				living = append(living, s.longName(other)...)
				binary.LittleEndian.PutUint32(other.name[:], uint32(at))
			}
		}
		s.names, s.dead = living, 0
	}
	e.nameLen = nameLong
	binary.LittleEndian.PutUint32(e.name[:], uint32(len(s.names)))
	binary.LittleEndian.PutUint32(e.name[4:], uint32(len(name)))
	s.names = append(s.names, name...)
}

func (s *deviceShard) longName(e *device) []byte {
	at, n := binary.LittleEndian.Uint32(e.name[:]), binary.LittleEndian.Uint32(e.name[4:])
	return s.names[at : at+n]
}

func (s *deviceShard) nameOf(n uint32) string { return string(s.nameBytes(n)) }

func (s *deviceShard) nameBytes(n uint32) []byte {
	e := s.at(n)
	if e.nameLen == nameLong {
		return s.longName(e)
	}
	return e.name[:e.nameLen]
}

// Device is what is known of one device.
type Device struct {
	Tenant   string            `json:"tenant"`
	Device   string            `json:"device"`
	Received uint64            `json:"received"`
	Stored   uint64            `json:"stored"`
	Rejected map[string]uint64 `json:"rejected,omitempty"` // by reason
	LastSeen time.Time         `json:"last_seen"`          // to the second
	// TokensLeft is how many messages the device may send at once; -1: no
	// limit.
	TokensLeft int `json:"tokens_left"`
	// Limit is the rate in force for it; nil: no limit.
	Limit    *Rate `json:"limit,omitempty"`
	rejected uint64
}

// Rejections is the sum over all reasons.
func (d Device) Rejections() uint64 { return d.rejected }

func (s *deviceShard) export(n uint32, limits *Live, now int64) Device {
	e := s.at(n)
	tenant, name, _ := strings.Cut(s.nameOf(n), "/")
	out := Device{
		Tenant: tenant, Device: name, Received: e.received, Stored: e.stored,
		LastSeen: time.Unix(int64(e.seen), 0).UTC(), TokensLeft: -1,
	}
	if l := limits.Snapshot().OfDevice([]byte(tenant), []byte(name)); l.interval > 0 {
		tat := e.tat
		if e.rateID != l.rateID {
			tat = l.convert(e.rateID, tat, e.clock, max(e.clock, now))
		}
		out.TokensLeft, out.Limit = l.left(tat, max(e.clock, now)), &l.Rate
	}
	if e.rejects != 0 {
		out.Rejected = make(map[string]uint64)
		for r, n := range s.rejects[e.rejects-1].by {
			if n > 0 {
				out.Rejected[verdict.Reason(r).String()] = n
				out.rejected += n
			}
		}
	}
	return out
}

// Lookup returns what is known of a device under the limits given.
func (d *Budgets) Lookup(tenant, name string, limits *Live) (Device, bool) {
	hash := maphash.String(d.seed, tenant+"/"+name)
	s := d.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.find(hash)
	if !ok {
		return Device{}, false
	}
	return s.export(n, limits, time.Now().UnixNano()), true
}
