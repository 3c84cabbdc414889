package certificates

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Certificate is the registry's entry for one certificate.
type Certificate struct {
	Active bool
	// Status is the registry's own status text, shown to operators.
	Status string
	// NotAfter is the end of validity, in ms since the epoch; 0: no end.
	NotAfter int64
}

// Live is a registry in memory. A source fills a [Table] with all its certificates, passes it to
// Use, and then writes single changes into that table.
type Live struct{ table atomic.Pointer[Table] }

// New returns an empty registry. Use must be called before messages are validated against it.
func New() *Live {
	c := &Live{}
	c.Use(NewTable())
	return c
}

// Use replaces the current table.
func (c *Live) Use(t *Table) { c.table.Store(t) }

// Table returns the current table.
func (c *Live) Table() *Table { return c.table.Load() }

// Certificate implements bridge.Registry.
func (c *Live) Certificate(name []byte) (Certificate, bool) {
	return c.table.Load().find(name)
}

// Table maps names, tenant/device, to certificates. Safe for concurrent use.
//
// It compares whole names. In a rate limit, a hash collision merges two devices' budgets; here it
// would accept an unknown or revoked certificate.
//
// Each shard has an open-addressed index of 4 bytes per slot over contiguous records, names
// included. A million certificates with names of 24 bytes cost 44 bytes each (measured).
type Table struct {
	seed   maphash.Seed
	shards [shardCount]shard
	count  atomic.Int64

	statusMu sync.Mutex
	statuses atomic.Pointer[[]string] // by number; 0 is ACTIVE, 1 stands for any beyond maxStatuses
}

const (
	shardCount = 64
	// recordHead is the length of a record before the name: end of validity and status in 8 bytes,
	// length of the name in 2.
	recordHead  = 10
	maxStatuses = 200
	// tombstone is the status of a deleted certificate. Its record remains until the shard is
	// rebuilt, so that probe sequences stay intact.
	tombstone = 255
	// maxNotAfter is the latest time that fits into a record, in ms: year 10889.
	maxNotAfter = 1<<48 - 1
)

// StatusActive is the status of a valid certificate. Any other status makes it unusable.
const StatusActive = "ACTIVE"

type shard struct {
	mu      sync.RWMutex
	index   []uint32 // 1 + offset of the record; 0: free
	records []byte
	used    int // occupied index slots, deleted certificates included
	live    int
	_       [24]byte // keeps the locks of two shards on different cache lines
}

// NewTable returns an empty table.
func NewTable() *Table {
	t := &Table{seed: maphash.MakeSeed()}
	t.statuses.Store(&[]string{StatusActive, "not active"})
	return t
}

// Len returns the number of certificates.
func (t *Table) Len() int { return int(t.count.Load()) }

// Put adds or replaces one certificate. It is active if its status is ACTIVE, in any case. notAfter
// is in ms since the epoch; 0: no end.
func (t *Table) Put(tenant, device, status string, notAfter int64) {
	value := uint64(min(max(notAfter, 0), maxNotAfter))<<8 | uint64(t.number(status))
	name := []byte(tenant + "/" + device)
	if len(name) > math.MaxUint16 {
		return // longer than any topic can be
	}
	s, hash := t.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, at, ok := s.find(hash, name)
	if !ok || byte(s.value(at)) == tombstone {
		s.live++
		t.count.Add(1)
	}
	if ok {
		binary.LittleEndian.PutUint64(s.records[at:], value)
		return
	}
	if 4*(s.used+1) > 3*len(s.index) {
		s.rebuild(t.seed)
	}
	s.add(hash, value, name)
}

// Delete removes one certificate.
func (t *Table) Delete(tenant, device string) {
	name := []byte(tenant + "/" + device)
	s, hash := t.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, at, ok := s.find(hash, name)
	if !ok || byte(s.value(at)) == tombstone {
		return
	}
	binary.LittleEndian.PutUint64(s.records[at:], tombstone)
	s.live--
	t.count.Add(-1)
}

// Compact frees the memory that the table reserved for growth.
func (t *Table) Compact() {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		s.records = slices.Clip(slices.Clone(s.records))
		s.mu.Unlock()
	}
}

func (t *Table) find(name []byte) (Certificate, bool) {
	s, hash := t.shard(name)
	s.mu.RLock()
	_, at, ok := s.find(hash, name)
	var value uint64
	if ok {
		value = s.value(at)
	}
	s.mu.RUnlock()
	status := byte(value)
	if !ok || status == tombstone {
		return Certificate{}, false
	}
	return Certificate{Active: status == 0, Status: (*t.statuses.Load())[status], NotAfter: int64(value >> 8)}, true
}

// number returns the number of a status. A registry has few of them; those beyond maxStatuses share
// one.
func (t *Table) number(status string) byte {
	if strings.EqualFold(status, StatusActive) {
		return 0
	}
	t.statusMu.Lock()
	defer t.statusMu.Unlock()
	known := *t.statuses.Load()
	if i := slices.Index(known, status); i >= 0 {
		return byte(i)
	}
	if len(known) >= maxStatuses {
		return 1
	}
	const longest = 64 // bytes of a status in a header
	known = append(slices.Clone(known), strings.ToValidUTF8(status[:min(len(status), longest)], ""))
	t.statuses.Store(&known)
	return byte(len(known) - 1)
}

func (t *Table) shard(name []byte) (*shard, uint64) {
	hash := maphash.Bytes(t.seed, name)
	return &t.shards[hash>>(64-6)], hash
}

// find returns the offset of the record of a name, or the free index slot for it. There may be none
// while the index is empty.
func (s *shard) find(hash uint64, name []byte) (place uint32, at int, ok bool) {
	if len(s.index) == 0 {
		return 0, 0, false
	}
	mask := uint32(len(s.index) - 1)
	for place = uint32(hash) & mask; s.index[place] != 0; place = (place + 1) & mask {
		at = int(s.index[place] - 1)
		if string(s.name(at)) == string(name) {
			return place, at, true
		}
	}
	return place, 0, false
}

func (s *shard) value(at int) uint64 { return binary.LittleEndian.Uint64(s.records[at:]) }

func (s *shard) name(at int) []byte {
	n := int(binary.LittleEndian.Uint16(s.records[at+8:]))
	return s.records[at+recordHead : at+recordHead+n]
}

// add adds a name that is not in the index, which has room for it.
func (s *shard) add(hash, value uint64, name []byte) {
	place, _, _ := s.find(hash, name)
	s.index[place] = uint32(len(s.records)) + 1
	s.records = binary.LittleEndian.AppendUint64(s.records, value)
	s.records = binary.LittleEndian.AppendUint16(s.records, uint16(len(name)))
	s.records = append(s.records, name...)
	s.used++
}

// rebuild sizes the index for twice the certificates, the one to be added included, and drops deleted
// records.
func (s *shard) rebuild(seed maphash.Seed) {
	size := 16
	for 4*s.live > 2*size {
		size *= 2
	}
	old := shard{records: s.records}
	s.index, s.used = make([]uint32, size), 0
	s.records = make([]byte, 0, len(old.records)+len(old.records)/4+64)
	for at := 0; at < len(old.records); {
		value, name := old.value(at), old.name(at)
		at += recordHead + len(name)
		if byte(value) != tombstone {
			s.add(maphash.Bytes(seed, name), value, name)
		}
	}
}
