package bridge

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
	"time"
	"unsafe"
)

// Journal is what a lane knows of its MQTT session: its latest QoS 1 deliveries in
// the order of delivery, each with its packet id, a hash of its content, the number
// in its message id and whether it is stored, and how far PUBACKs may have been
// written. From this a redelivery is recognized, which must keep its message id
// (redelivery.go).
//
// With a file (OpenJournal) it outlives the process. kill -9 takes nothing, because
// the writes are stores to mapped memory, which the kernel keeps. Not safe for
// concurrent use: the lane's lock covers it.
//
// A delivery's position counts from 1. DESIGN.md has the bytes of the file.
type Journal struct {
	header  *journalHeader
	entries *[journalEntries]journalEntry
	unmap   func() error // nil without a file

	number  uint64  // the latest one given out
	inOrder idRange // derived from the entries
}

// journalHeader is the beginning of the file. All words are little-endian: see le.
type journalHeader struct {
	magic  [8]byte
	client uint64 // hash of the client id
	boot   uint64 // hash of the boot id of the machine that wrote last
	alive  uint64 // when the lane last heard from the broker, ns since the epoch
	beat   uint64 // when the process last gave a sign of life, ns since the epoch
	end    uint64 // position of the next delivery
	low    uint64 // deliveries before it are not redelivered any more
	acked  uint64 // PUBACKs of those before it may have been written
	start  uint64 // where the broker's present numbering of packets began
	first  uint64 // its packet id
	unsure uint64 // 1: the lane was disconnected too long to trust content that recurs
}

// journalEntry is one delivery: the number in its message id; hash (47 bits), stored
// bit and packet id (16 bits).
type journalEntry struct{ number, message uint64 }

const (
	packetIDs = 1 << 16

	// journalEntries bounds the deliveries in doubt: no broker can have more in
	// flight than there are packet ids.
	journalEntries = packetIDs

	storedBit = 1 << 16
	hashMask  = ^uint64(storedBit<<1 - 1)

	// A number is seconds since 2020 (31 bits), a count within the second
	// (17 bits) and an epoch (16 bits) that each opening of a journal draws anew.
	epochBits    = 16
	secondsShift = epochBits + 17
	numbersBegin = 1577836800 // 2020-01-01
)

// swapped says that this machine is not little-endian.
var swapped = binary.NativeEndian.Uint16([]byte{1, 0}) != 1

// le converts between a word of the file and one of this machine.
func le(w uint64) uint64 {
	if swapped {
		return bits.ReverseBytes64(w)
	}
	return w
}

// NewJournal returns a journal in memory: it ends with the process.
func NewJournal() *Journal {
	j := &Journal{header: new(journalHeader), entries: new([journalEntries]journalEntry)}
	j.clear(1)
	j.begin(time.Now(), 0)
	return j
}

// begin sets the numbers of a journal just opened. They follow the clock and have an
// epoch, so none is given out that an earlier process used and the file has forgotten,
// be it because there was no file, because a power cut took its latest pages, or
// because a copy was put back. Such a number could be a false duplicate, which is a
// lost message.
func (j *Journal) begin(now time.Time, last uint64) {
	j.number = last>>epochBits<<epochBits | rand.Uint64N(1<<epochBits)
	j.follow(now.UnixNano())
}

// follow lets the numbers follow the clock: the seconds in a number are no later than
// when it was given out.
func (j *Journal) follow(now int64) {
	epoch := j.number & (1<<epochBits - 1)
	if n := uint64(max(now/1e9-numbersBegin, 0))<<secondsShift | epoch; n > j.number {
		j.number = n
	}
}

// numberedAt is the earliest time at which a number was given out, in ns since the
// epoch.
func numberedAt(number uint64) int64 {
	return (int64(number>>secondsShift) + numbersBegin) * 1e9
}

// Append notes a new message before it is published, and returns its position and
// the number for its message id.
func (j *Journal) Append(packetID uint16, hash uint64, now int64) (pos, number uint64) {
	j.number += 1 << epochBits
	h := j.header
	pos = le(h.end)
	*j.at(pos) = journalEntry{le(j.number), le(hash&hashMask | uint64(packetID))}
	h.alive, h.beat = le(uint64(now)), le(uint64(now))
	// Last: an entry that a crash cut in two lies beyond the end.
	atomic.StoreUint64(&h.end, le(pos+1))
	return pos, j.number
}

// MarkStored notes that the message at a position is stored.
func (j *Journal) MarkStored(pos uint64) {
	if pos >= j.oldest() {
		e := j.at(pos)
		atomic.StoreUint64(&e.message, le(le(e.message)|storedBit))
	}
}

// MarkAcked notes that the PUBACKs of the deliveries before a position may have been
// written. It comes before the write.
func (j *Journal) MarkAcked(end uint64) {
	if end > le(j.header.acked) {
		set(&j.header.acked, end)
	}
}

// MarkConfirmed notes that the broker has handled the PUBACKs of the deliveries before a
// position.
func (j *Journal) MarkConfirmed(end uint64) {
	if end > le(j.header.low) {
		set(&j.header.low, end)
	}
}

// Forget drops every delivery: the broker has lost the session. Numbers go on.
func (j *Journal) Forget() { j.clear(le(j.header.end)) }

// clear begins anew at a position.
func (j *Journal) clear(end uint64) {
	h := j.header
	j.inOrder = idRange{}
	for _, w := range []*uint64{&h.start, &h.low, &h.acked, &h.end} {
		set(w, end)
	}
	set(&h.first, 0)
	set(&h.unsure, 0)
}

// Beat notes a sign of life of the process and, where it is connected, of the broker.
func (j *Journal) Beat(now int64, connected bool) {
	set(&j.header.beat, uint64(now))
	if connected {
		set(&j.header.alive, uint64(now))
	}
	j.follow(now)
}

// Alive returns when the lane last heard from the broker, in this process or an
// earlier one, in ns since the Unix epoch; 0: never.
func (j *Journal) Alive() int64 { return int64(le(atomic.LoadUint64(&j.header.alive))) }

func set(word *uint64, value uint64) { atomic.StoreUint64(word, le(value)) }

// at returns the place of a position. It must be no older than oldest.
func (j *Journal) at(pos uint64) *journalEntry { return &j.entries[pos%journalEntries] }

func (j *Journal) end() uint64 { return le(j.header.end) }

// low is the first delivery that may still be redelivered.
func (j *Journal) low() uint64 { return max(le(j.header.low), j.oldest()) }

// unacked is the first delivery whose PUBACK was certainly never written.
func (j *Journal) unacked() uint64 { return max(le(j.header.acked), j.low()) }

// oldest is the first position that is still there. One less than there are places:
// a crash may have begun to overwrite the one before.
func (j *Journal) oldest() uint64 {
	if end := j.end(); end > journalEntries {
		return end - journalEntries + 1
	}
	return 1
}

func (j *Journal) packetID(pos uint64) uint16 { return uint16(le(j.at(pos).message)) }

func (j *Journal) sameContent(pos, hash uint64) bool {
	return (le(j.at(pos).message)^hash)&hashMask == 0
}

// Close gives the file back. The journal must not be used after it.
func (j *Journal) Close() error {
	if j.unmap == nil {
		return nil
	}
	unmap := j.unmap
	j.unmap, j.entries, j.header = nil, nil, nil
	return unmap()
}

const (
	headerSize  = 4096
	entrySize   = int(unsafe.Sizeof(journalEntry{}))
	journalSize = headerSize + journalEntries*entrySize
)
