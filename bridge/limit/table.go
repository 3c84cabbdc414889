package limit

import (
	"encoding/binary"
	"sync"

	"mqtt-nats-bridge/bridge/verdict"
)

const (
	deviceShards = 64
	// nameBytes is the maximum length in bytes of a tenant/device name kept in the entry itself.
	// Longer names are kept separately and cost their length.
	nameBytes = 24
	// maxName is the maximum number of bytes kept of a name. A common name may have any length.
	maxName    = 1 << 10
	chunkShift = 6
	chunkSize  = 1 << chunkShift
)

// device is an entry: 80 bytes.
type device struct {
	hash     uint64
	tat      int64 // of the rate limit
	clock    int64 // latest time of the limiter's clock, ns since the epoch; see Budgets.Take
	received uint64
	stored   uint64
	seen     uint32          // when the latest message arrived, s since the epoch
	rejects  uint32          // 1 + index of its rejections; 0: none
	name     [nameBytes]byte // or, for a long name, its offset and length in the shard's names
	nameLen  uint8           // nameLong: kept separately
	used     bool
	rateID   uint16 // of the rate with which tat was counted; 0: none
	kinds    uint32 // the set of kinds that it has published
}

// nameLong is the nameLen of a name that is kept separately.
const nameLong = 255

// rejections are the counts of a device with rejected messages.
type rejections struct {
	by         [verdict.Count]uint64
	quarantine int64  // TAT of the bound on its quarantined messages
	clock      int64  // latest time of that bound's clock
	rateID     uint16 // of that bound
}

type deviceShard struct {
	mu          sync.Mutex
	index       []uint32 // 1 + entry number; 0: free
	chunks      []*[chunkSize]device
	entries     uint32 // used so far, including free ones
	free        []uint32
	used        int
	sweepAt     uint32 // position of the sweep
	rejects     []rejections
	freeRejects []uint32 // free indexes of rejects
	names       []byte   // long names, concatenated
	deadBytes   int      // bytes of names of removed devices
	// histories are those of the entries charged by TakeDated.
	histories map[uint32]*history
	_         [16]byte // keeps the locks of two shards on different cache lines
}

func (d *Budgets) shard(hash uint64) *deviceShard { return &d.shards[hash>>(64-6)] }

// lock returns the entry of r and its shard, which it locks. If the device was removed, it returns
// nil and locks nothing.
func (d *Budgets) lock(r Ref) (*device, *deviceShard) {
	s := d.shard(r.Hash)
	s.mu.Lock()
	if r.entry < s.entries {
		if e := s.at(r.entry); e.used && e.hash == r.Hash {
			return e, s
		}
	}
	s.mu.Unlock()
	return nil, nil
}

func (s *deviceShard) at(n uint32) *device {
	return &s.chunks[n>>chunkShift][n&(chunkSize-1)]
}

// find returns the entry with a hash.
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

// rejected returns the number of a device's rejected messages.
func (s *deviceShard) rejected(e *device) (n uint64) {
	if e.rejects != 0 {
		for _, by := range s.rejects[e.rejects-1].by {
			n += by
		}
	}
	return n
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

// sweep removes idle devices among the next two entries. If the shard is full, it also removes the
// longest idle of the next eight.
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
	s.sweepAt++
	if s.sweepAt >= s.entries {
		s.sweepAt = 0
	}
	return s.sweepAt
}

// forget removes entry n.
func (d *Budgets) forget(s *deviceShard, n uint32) {
	e := s.at(n)
	mask := uint32(len(s.index) - 1)
	i := uint32(e.hash) & mask
	for s.index[i] != n+1 {
		i = (i + 1) & mask
	}
	// Delete from an open-addressed table: later entries of the same run move up if their home slot
	// allows it.
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
		s.freeRejects = append(s.freeRejects, e.rejects-1)
	}
	if e.nameLen == nameLong {
		s.deadBytes += int(binary.LittleEndian.Uint32(e.name[4:]))
	}
	*e = device{}
	s.free = append(s.free, n)
	s.used--
	d.count.Add(-1)
	d.evicted.Add(1)
}

// keepName appends a long name to the others. If more than half of their bytes belong to removed
// devices, it compacts them first. e is not in use yet.
func (s *deviceShard) keepName(e *device, name []byte) {
	if 2*s.deadBytes > len(s.names) {
		live := make([]byte, 0, len(s.names)-s.deadBytes+len(name))
		for i := range s.entries {
			if other := s.at(i); other != e && other.used && other.nameLen == nameLong {
				at := len(live)
				live = append(live, s.longName(other)...)
				binary.LittleEndian.PutUint32(other.name[:], uint32(at))
			}
		}
		s.names, s.deadBytes = live, 0
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
