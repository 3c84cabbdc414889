package bridge

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"
)

// Journal is a lane's packet-id table: for each of the 65,535 packet ids of its
// MQTT session the number that the latest message under it got, a hash of that
// message, and whether it is stored. It is what tells a redelivery, which must
// keep its message id, from a new message.
//
// With a file (OpenJournal) it outlives the process; kill -9 takes nothing,
// because the writes are stores to mapped memory, which the kernel keeps. Not
// safe for concurrent use: the lane's lock covers it.
type Journal struct {
	// words holds two words for each packet id: [0] number, stored bit and
	// checksum, [1] hash.
	words  *[2 * packetIDs]uint64
	header *journalHeader // nil without a file
	unmap  func() error

	counter uint64 // the latest number
	start   uint64 // the counter when the table was opened
	last    uint64 // the latest number in the table at that time
	// older are the numbers that were in the table at that time, ascending:
	// between the processes that gave them out lie gaps, so that only their
	// rank tells how many messages ago each was new.
	older []uint64
}

const (
	packetIDs = 1 << 16

	// redeliveryReach is how many messages ago a redelivered one can have
	// been new. A broker assigns packet ids in turn, as mosquitto and EMQX
	// do, and so comes back to an id after 65,535 messages; what is younger
	// than that comes "again", what is older came "before that". What is left
	// up to there allows for packet ids that the broker used up for messages
	// it then dropped. Without the limit, identical payloads are lost:
	// measured 4,465 of 70,000 with a hash alone.
	//
	// It must cover what the lane holds unsettled (maxUnsettled) and the
	// PUBACKs that the broker has not read when a connection ends. Under load
	// mosquitto 2.0.11 leaves some 42,000 of them (170 KB) in its socket
	// buffer and then redelivers up to 57,580 messages: measured.
	redeliveryReach = packetIDs - 1 - 4096

	storedBit   = 1 << 16
	numberShift = 17
	numberBits  = 64 - numberShift
	// numberEnd is beyond what a table may hold when it is opened: no clock
	// before 2054 gives such a number, and the ones that follow it would not
	// fit their bits and begin anew.
	numberEnd    = 1<<numberBits - 1<<32
	checksumMask = storedBit - 1
)

// NewJournal returns a table in memory: the ids of what was in flight are gone
// with the process.
func NewJournal() *Journal {
	j := &Journal{words: new([2 * packetIDs]uint64)}
	j.begin(time.Now())
	return j
}

// begin sets the counter of a table just opened. Numbers follow the clock,
// 131,072 a second: so none is given out that an earlier process used and the
// table has forgotten, be it because there was no file or because a power cut
// took its latest pages. Such a number could be a false duplicate, which is a
// lost message.
func (j *Journal) begin(now time.Time) {
	const epoch = 1577836800 // 2020-01-01; 30 bits of seconds reach to 2054
	seconds := uint64(max(now.Unix()-epoch, 0))
	j.start = max(j.last, seconds<<17&(1<<numberBits-1)+rand.Uint64N(1<<16))
	j.counter = j.start
}

// Begin gives a new message its number and writes the entry: before the message
// is published, so that a redelivery after a crash finds it.
func (j *Journal) Begin(packetID uint16, hash uint64) (number uint64) {
	j.counter++
	j.put(packetID, j.counter, 0, hash)
	return j.counter
}

// Find tells whether a message that came with DUP set is the one last seen under
// its packet id, and if so its number and whether it is stored.
func (j *Journal) Find(packetID uint16, hash uint64) (number uint64, stored, ok bool) {
	w := &j.words[2*int(packetID)]
	word, known := atomic.LoadUint64(w), atomic.LoadUint64(&j.words[2*int(packetID)+1])
	if word == 0 || known != hash || checksum(word, known) != word&checksumMask {
		return 0, false, false
	}
	number = word >> numberShift
	if j.age(number) > redeliveryReach {
		return 0, false, false
	}
	return number, word&storedBit != 0, true
}

// Forget drops every entry: the broker has lost the session that they belong to.
// Numbers go on.
func (j *Journal) Forget() {
	for i, w := range j.words {
		if w != 0 { // a blank page stays untouched
			j.words[i] = 0
		}
	}
	// Packet id 0 belongs to no message; its entry keeps the latest number.
	j.put(0, j.counter, 0, 0)
}

// Pass notes a message that is not to be stored. It has an entry like any other:
// it used up a packet id, and the table must know that after a crash too.
func (j *Journal) Pass(packetID uint16, hash uint64) {
	j.counter++
	j.put(packetID, j.counter, storedBit, hash)
}

// age is how many messages ago the number was given out, not counting the gaps
// between processes: a message can outlive several of them unacknowledged.
func (j *Journal) age(number uint64) uint64 {
	if number > j.start {
		return j.counter - number
	}
	rank, _ := slices.BinarySearch(j.older, number)
	return j.counter - j.start + uint64(len(j.older)-rank) - 1
}

// Stored notes that the message with that number is stored. It does nothing
// where the packet id has a newer message.
func (j *Journal) Stored(packetID uint16, number uint64) {
	i := 2 * int(packetID)
	if j.words[i]>>numberShift == number {
		j.put(packetID, number, storedBit, j.words[i+1])
	}
}

// put writes an entry. The first word carries the checksum of both, so that an
// entry cut in two by a crash is no entry: its message was not published yet.
func (j *Journal) put(packetID uint16, number, stored, hash uint64) {
	word := number<<numberShift | stored
	word |= checksum(word, hash)
	i := 2 * int(packetID)
	atomic.StoreUint64(&j.words[i], word)
	atomic.StoreUint64(&j.words[i+1], hash)
}

// checksum folds both words, the checksum's own place left out, to 16 bits, of
// which none of the results is for two zero words what a blank entry holds.
func checksum(word, hash uint64) uint64 {
	x := (word &^ checksumMask) ^ 0x9e3779b97f4a7c15
	x = (x ^ hash) * 0xd6e8feb86659fd93
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	return x >> 48
}

// Close gives the file back. The journal must not be used after it.
func (j *Journal) Close() error {
	if j.unmap == nil {
		return nil
	}
	unmap := j.unmap
	j.unmap, j.words, j.header = nil, nil, nil
	return unmap()
}

// journalHeader begins a journal's file.
type journalHeader struct {
	magic  [8]byte
	client uint64 // hash of the client id
	alive  int64  // when the lane last heard from the broker, ns since the epoch
}

// SetAlive notes when the lane last heard from the broker, in ns since the Unix
// epoch.
func (j *Journal) SetAlive(ns int64) {
	if j.header != nil {
		atomic.StoreInt64(&j.header.alive, ns)
	}
}

// Alive returns what SetAlive noted last, in this process or an earlier one; 0:
// never.
func (j *Journal) Alive() int64 {
	if j.header == nil {
		return 0
	}
	return atomic.LoadInt64(&j.header.alive)
}

const (
	headerSize  = 4096
	journalSize = headerSize + int(unsafe.Sizeof([2 * packetIDs]uint64{}))
)
