package journal

import "sort"

// The methods in this file compare a candidate run of redeliveries with the journal. DESIGN.md,
// "Redelivery", has the rules and the proof.

// idStep returns the distance (at least 1) between two packet ids that the broker assigned one
// after the other. It returns 0 if the second cannot be the successor of the first.
func idStep(first, second uint16) uint64 {
	d := idDistance(first, second)
	if d > PacketIDs/2 {
		return 0
	}
	return d
}

// StartByID finds the delivery at which a run begins whose first packet has this id and content, on
// a broker that keeps packet ids.
//
// All ids from the delivery before it up to the latest must have been assigned in sequence. Then no
// message after the latest can have one of them, and a broker that renumbers on each connection
// would not have reached it, unless it starts with that id. The ids need no proof if the run begins
// at the first delivery that was never acknowledged: a run cannot begin later.
func (j *Journal) StartByID(packetID uint16, hash uint64) (pos uint64, ok bool) {
	pos, proven := j.byID(packetID)
	if pos == 0 || pos > j.Unacked() || !j.SameContent(pos, hash) {
		return 0, false
	}
	return pos, proven && !j.MayRenumber(packetID) || pos == j.Unacked()
}

// SentAgain finds a delivery that the broker resends on the connection on which it was
// acknowledged: the PUBACK and the second PUBLISH crossed.
func (j *Journal) SentAgain(packetID uint16, hash uint64) (pos uint64, ok bool) {
	if end := j.End(); end == j.Low() || idStep(j.PacketID(end-1), packetID) > 0 {
		return 0, false
	}
	pos, proven := j.byID(packetID)
	// The broker does not renumber within a connection, so the first delivery needs only a
	// successor.
	proven = proven || pos > 0 && pos == le(j.header.start) && pos+1 < j.End()
	return pos, proven && j.SameContent(pos, hash)
}

// idRange is the range of the latest deliveries, from Low at the earliest, whose packet ids were
// assigned in sequence without wrapping around completely. Each id occurs once in it, in order. It
// is cached between calls: if a broker resends a whole window many times, each message costs a
// search instead of a scan. Zero: unknown.
type idRange struct {
	from, end uint64 // positions
	span      uint64 // ids from the first to the last
}

// idDistance returns how many ids the second packet id is after the first, with wrap-around.
func idDistance(first, second uint16) uint64 {
	return uint64((int(second) - int(first) + PacketIDs - 1) % (PacketIDs - 1))
}

// latestIDRange updates the cached range. The journal must contain at least one delivery.
func (j *Journal) latestIDRange() *idRange {
	t, end, low := &j.inOrder, j.End(), j.Low()
	if t.end <= low || t.end > end { // unknown, or no longer available
		*t = idRange{end - 1, end, 0}
		for t.from > low {
			step := idStep(j.PacketID(t.from-1), j.PacketID(t.from))
			if step == 0 || t.span+step >= PacketIDs-1 {
				break
			}
			t.from, t.span = t.from-1, t.span+step
		}
		return t
	}
	if t.from < low {
		t.from, t.span = low, idDistance(j.PacketID(low), j.PacketID(t.end-1))
	}
	for ; t.end < end; t.end++ {
		step := idStep(j.PacketID(t.end-1), j.PacketID(t.end))
		if step == 0 {
			t.from, t.span = t.end, 0
			continue
		}
		for t.span += step; t.span >= PacketIDs-1; t.from++ {
			t.span -= idStep(j.PacketID(t.from), j.PacketID(t.from+1))
		}
	}
	return t
}

// byID finds the latest delivery with a packet id. It returns 0 if there is none, or if ids were
// not assigned in sequence since. proven means that the delivery before it is in sequence as well,
// so it is not the first of the broker's numbering.
func (j *Journal) byID(packetID uint16) (pos uint64, proven bool) {
	if j.End() == j.Low() {
		return 0, false
	}
	t := j.latestIDRange()
	first := j.PacketID(t.from)
	offset := idDistance(first, packetID)
	pos = t.from + uint64(sort.Search(int(t.end-t.from), func(i int) bool {
		return idDistance(first, j.PacketID(t.from+uint64(i))) >= offset
	}))
	if pos == t.end || j.PacketID(pos) != packetID {
		return 0, false
	}
	if pos <= le(j.header.start) || pos <= j.Oldest() {
		return pos, false
	}
	step := idStep(j.PacketID(pos-1), packetID)
	return pos, step > 0 && idDistance(packetID, j.PacketID(t.end-1))+step < PacketIDs-1
}

// MayRenumber reports whether this can be the first packet id of a connection on a broker that
// renumbers on each connection.
func (j *Journal) MayRenumber(packetID uint16) bool {
	return packetID == 1 || uint64(packetID) == le(j.header.first)
}

// SameRun reports whether the contents equal those of the latest deliveries, up to the last.
func (j *Journal) SameRun(hashes []uint64) bool {
	pos := j.End() - uint64(len(hashes))
	for _, h := range hashes {
		if !j.SameContent(pos, h) {
			return false
		}
		pos++
	}
	return true
}

// minHistory is the minimum number of different contents from which Distinct concludes that
// contents do not repeat.
const minHistory = 100

// Distinct reports whether contents do not repeat. No content from the position on may occur twice
// in the journal, and the journal must contain many contents.
func (j *Journal) Distinct(from uint64) bool {
	count := make(map[uint64]int)
	for pos := j.Oldest(); pos < j.End(); pos++ {
		count[le(j.at(pos).message)&ContentMask]++
	}
	if len(count) < minHistory { // few contents, repeated often: no evidence
		return false
	}
	for pos := from; pos < j.End(); pos++ {
		if count[le(j.at(pos).message)&ContentMask] > 1 {
			return false
		}
	}
	return true
}

// Resume records that the broker redelivers everything from a position on. PUBACKs of earlier
// deliveries have arrived, later ones have not. packetIDs are the new ids if the broker renumbered,
// otherwise nil.
func (j *Journal) Resume(from uint64, packetIDs []uint16) {
	h := j.header
	if packetIDs != nil {
		j.inOrder = idRange{} // of the old ids
		set(&h.start, from)
		set(&h.first, uint64(packetIDs[0]))
		for i, id := range packetIDs {
			e := j.at(from + uint64(i))
			set(&e.message, le(e.message)>>16<<16|uint64(id))
		}
	}
	set(&h.low, from)
	set(&h.acked, from)
	set(&h.unsure, 0)
}

// Settle records that a connection begins with a new message, so nothing is redelivered. With keep,
// the deliveries can still be found (attested topics).
func (j *Journal) Settle(packetID uint16, keep bool) {
	h, end := j.header, j.End()
	continues := end > le(h.start) && end > j.Oldest() && !j.MayRenumber(packetID) && idStep(j.PacketID(end-1), packetID) > 0
	if !continues {
		set(&h.first, 0)
		set(&h.start, end)
		set(&h.first, uint64(packetID))
	}
	if !keep {
		set(&h.low, end)
	}
	set(&h.unsure, 0)
}

// SetUnsure records that repeated content proves nothing until the session is resumed.
func (j *Journal) SetUnsure() { set(&j.header.unsure, 1) }

// Unsure reports whether repeated content proves nothing.
func (j *Journal) Unsure() bool { return j.header.unsure != 0 }

// ByContent returns the positions of the deliveries that may be redelivered. The key is the content
// hash masked by [ContentMask].
func (j *Journal) ByContent() map[uint64]uint64 {
	positions := make(map[uint64]uint64, j.End()-j.Low())
	for pos := j.Low(); pos < j.End(); pos++ {
		positions[le(j.at(pos).message)&ContentMask] = pos
	}
	return positions
}

// Contains reports whether a delivery that may be redelivered has this content.
func (j *Journal) Contains(hash uint64) bool {
	for pos := j.Low(); pos < j.End(); pos++ {
		if j.SameContent(pos, hash) {
			return true
		}
	}
	return false
}

// Find returns the number of a delivery, and whether it is stored.
func (j *Journal) Find(pos uint64) (number uint64, stored bool) {
	e := j.at(pos)
	return le(e.number), le(e.message)&storedBit != 0
}

// ascending returns the last number, and whether the numbers ascend, as they do in an undamaged
// file.
func (j *Journal) ascending() (last uint64, ok bool) {
	for pos := j.Oldest(); pos < j.End(); pos++ {
		number := le(j.at(pos).number)
		if number <= last || j.PacketID(pos) == 0 {
			return 0, false
		}
		last = number
	}
	return last, true
}
