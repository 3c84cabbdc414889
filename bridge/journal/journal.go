package journal

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
	"time"
	"unsafe"
)

// Journal records the latest QoS 1 deliveries of one MQTT session, in order of delivery, and up to
// which position PUBACKs may have been written. Positions count from 1. Not safe for concurrent
// use: the lane's lock protects it.
type Journal struct {
	header  *header
	entries *[maxEntries]entry
	unmap   func() error // nil: in memory

	number  uint64  // the latest number assigned
	inOrder idRange // derived from the entries
}

// header is the beginning of the file. All words are little-endian; see le.
type header struct {
	magic  [8]byte
	client uint64 // hash of the client id
	boot   uint64 // hash of the boot id of the machine that wrote last
	alive  uint64 // when the lane last heard from the broker, ns since the epoch
	beat   uint64 // when the process was last known to run, ns since the epoch
	end    uint64 // position of the next delivery
	low    uint64 // deliveries before it can no longer be redelivered
	acked  uint64 // PUBACKs of deliveries before it may have been written
	start  uint64 // position at which the broker's current numbering of packets began
	first  uint64 // packet id at start
	unsure uint64 // 1: the lane was disconnected too long to trust repeated content
}

// entry is one delivery: the number in its message id, then hash (47 bits), stored bit and packet
// id (16 bits).
type entry struct{ number, message uint64 }

const (
	// PacketIDs is the number of values of a packet id, including 0.
	PacketIDs = 1 << 16

	// maxEntries bounds the deliveries that may be redelivered: a broker cannot have more in flight
	// than there are packet ids.
	maxEntries = PacketIDs

	storedBit = 1 << 16

	// ContentMask selects the bits of a content hash that an entry stores.
	ContentMask = ^uint64(storedBit<<1 - 1)

	// A number consists of seconds since 2020 (31 bits), a count within the second (17 bits) and a
	// random epoch (16 bits), drawn each time a journal is opened.
	epochBits    = 16
	secondsShift = epochBits + 17
	numbersBegin = 1577836800 // 2020-01-01
)

// swapped reports whether this machine is big-endian.
var swapped = binary.NativeEndian.Uint16([]byte{1, 0}) != 1

// le converts between a word of the file and a native word.
func le(w uint64) uint64 {
	if swapped {
		return bits.ReverseBytes64(w)
	}
	return w
}

// New returns a journal in memory, with a random epoch. It ends with the process.
func New() *Journal { return NewEpoch(rand.Uint64()) }

// NewEpoch is [New] with the epoch given: see [Options].Epoch.
func NewEpoch(epoch uint64) *Journal {
	j := &Journal{header: new(header), entries: new([maxEntries]entry)}
	j.clear(1)
	j.begin(time.Now(), 0, epoch)
	return j
}

// begin initializes the numbering of a journal that was just opened. Numbers follow the clock and
// contain an epoch, usually a random one. This avoids numbers of an earlier process that the file does not contain,
// because it was missing, lost its latest pages or was restored from a copy. Such a number could be
// a false duplicate, which is a lost message.
func (j *Journal) begin(now time.Time, last, epoch uint64) {
	j.number = last>>epochBits<<epochBits | epoch&(1<<epochBits-1)
	j.followClock(now.UnixNano())
}

// followClock advances the numbers with the clock. The seconds in a number are never later than the
// time at which it was assigned.
func (j *Journal) followClock(now int64) {
	epoch := j.number & (1<<epochBits - 1)
	if n := uint64(max(now/1e9-numbersBegin, 0))<<secondsShift | epoch; n > j.number {
		j.number = n
	}
}

// NumberedAt returns the earliest time at which a number can have been assigned, in ns since the
// epoch.
func NumberedAt(number uint64) int64 {
	return (int64(number>>secondsShift) + numbersBegin) * 1e9
}

// Append records a new message before it is published. It returns the position and the number for
// the message id.
func (j *Journal) Append(packetID uint16, hash uint64, now int64) (pos, number uint64) {
	j.number += 1 << epochBits
	h := j.header
	pos = le(h.end)
	*j.at(pos) = entry{le(j.number), le(hash&ContentMask | uint64(packetID))}
	h.alive, h.beat = le(uint64(now)), le(uint64(now))
	// This store comes last: an entry torn by a crash lies beyond the end.
	atomic.StoreUint64(&h.end, le(pos+1))
	return pos, j.number
}

// MarkStored records that the message at a position is stored.
func (j *Journal) MarkStored(pos uint64) {
	if pos >= j.Oldest() {
		e := j.at(pos)
		atomic.StoreUint64(&e.message, le(le(e.message)|storedBit))
	}
}

// MarkAcked records that the PUBACKs of the deliveries before a position may have been written. It
// must be called before the write.
func (j *Journal) MarkAcked(end uint64) {
	if end > le(j.header.acked) {
		set(&j.header.acked, end)
	}
}

// MarkConfirmed records that the broker has handled the PUBACKs of the deliveries before a
// position.
func (j *Journal) MarkConfirmed(end uint64) {
	if end > le(j.header.low) {
		set(&j.header.low, end)
	}
}

// Forget discards every delivery, because the broker has lost the session. Numbers continue.
func (j *Journal) Forget() { j.clear(le(j.header.end)) }

// clear empties the journal. The next delivery gets the position end.
func (j *Journal) clear(end uint64) {
	h := j.header
	j.inOrder = idRange{}
	for _, w := range []*uint64{&h.start, &h.low, &h.acked, &h.end} {
		set(w, end)
	}
	set(&h.first, 0)
	set(&h.unsure, 0)
}

// Beat records that the process is running and, if connected, that the broker is.
func (j *Journal) Beat(now int64, connected bool) {
	set(&j.header.beat, uint64(now))
	if connected {
		set(&j.header.alive, uint64(now))
	}
	j.followClock(now)
}

// Alive returns when the lane last heard from the broker, in this process or an earlier one, in ns
// since the epoch; 0: never.
func (j *Journal) Alive() int64 { return int64(le(atomic.LoadUint64(&j.header.alive))) }

func set(word *uint64, value uint64) { atomic.StoreUint64(word, le(value)) }

// at returns the entry at a position, which must not be older than Oldest.
func (j *Journal) at(pos uint64) *entry { return &j.entries[pos%maxEntries] }

// End returns the position of the next delivery.
func (j *Journal) End() uint64 { return le(j.header.end) }

// Low returns the position of the first delivery that may still be redelivered.
func (j *Journal) Low() uint64 { return max(le(j.header.low), j.Oldest()) }

// Acked returns the position before which PUBACKs may have been written.
func (j *Journal) Acked() uint64 { return le(j.header.acked) }

// Unacked returns the position of the first delivery whose PUBACK was certainly never written.
func (j *Journal) Unacked() uint64 { return max(le(j.header.acked), j.Low()) }

// Oldest returns the first position whose entry is still available. The entry before it is not
// used: a crash may have interrupted its overwriting.
func (j *Journal) Oldest() uint64 {
	if end := j.End(); end > maxEntries {
		return end - maxEntries + 1
	}
	return 1
}

// PacketID returns the packet id of a delivery.
func (j *Journal) PacketID(pos uint64) uint16 { return uint16(le(j.at(pos).message)) }

// SameContent reports whether the content of a delivery has this hash.
func (j *Journal) SameContent(pos, hash uint64) bool {
	return (le(j.at(pos).message)^hash)&ContentMask == 0
}

// Close unmaps and closes the file. The journal must not be used afterwards.
func (j *Journal) Close() error {
	if j.unmap == nil {
		return nil
	}
	unmap := j.unmap
	j.unmap, j.entries, j.header = nil, nil, nil
	return unmap()
}

const (
	headerSize = 4096
	entrySize  = int(unsafe.Sizeof(entry{}))
	fileSize   = headerSize + maxEntries*entrySize
)
