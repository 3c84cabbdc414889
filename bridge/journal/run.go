package journal

import "sort"

// These methods compare a candidate run of redeliveries with the journal. DESIGN.md,
// "Redelivery", has the rules and the proof.

// inTurn returns the distance between two packet ids that the broker assigned one after
// the other, at least 1; 0 if the second does not follow the first in turn.
func inTurn(first, second uint16) uint64 {
	d := idDistance(first, second)
	if d > PacketIDs/2 {
		return 0
	}
	return d
}

// StartByID finds the delivery with which a run would begin whose first packet has this
// id and content, on a broker that keeps its packet ids. The ids must have been assigned
// in turn from the delivery before it to the latest: then no message after the latest
// can have one of them, and a broker that numbers anew on each connection would not have
// reached it, unless it is the id that such a broker begins with. If the run begins with
// the first delivery that was never acknowledged, ids need not prove anything: it must
// begin there at the latest.
func (j *Journal) StartByID(packetID uint16, hash uint64) (pos uint64, ok bool) {
	pos, proved := j.byID(packetID)
	if pos == 0 || pos > j.Unacked() || !j.SameContent(pos, hash) {
		return 0, false
	}
	return pos, proved && !j.MayRenumber(packetID) || pos == j.Unacked()
}

// SentAgain finds a delivery that the broker sends again on the connection on which it
// was acknowledged: the PUBACK and the second PUBLISH have crossed.
func (j *Journal) SentAgain(packetID uint16, hash uint64) (pos uint64, ok bool) {
	if end := j.End(); end == j.Low() || inTurn(j.PacketID(end-1), packetID) > 0 {
		return 0, false
	}
	pos, proved := j.byID(packetID)
	// Within a connection nothing is numbered anew: the first needs only a successor.
	proved = proved || pos > 0 && pos == le(j.header.start) && pos+1 < j.End()
	return pos, proved && j.SameContent(pos, hash)
}

// idRange is the range of the latest deliveries, from Low at the earliest, whose packet ids
// were assigned in turn and span fewer than all ids: each id occurs once in it, in order. It is
// kept from call to call. A broker that sends a whole window again, many times, then costs a
// search per message and not a scan. Zero: not known.
type idRange struct {
	from, end uint64 // positions
	span      uint64 // of the ids, from the first to the last
}

// idDistance returns how many ids the second packet id is after the first, modulo wrap-around.
func idDistance(first, second uint16) uint64 {
	return uint64((int(second) - int(first) + PacketIDs - 1) % (PacketIDs - 1))
}

// latestInTurn updates the range. There is at least one delivery.
func (j *Journal) latestInTurn() *idRange {
	t, end, low := &j.inOrder, j.End(), j.Low()
	if t.end <= low || t.end > end { // not known, or no longer kept
		*t = idRange{end - 1, end, 0}
		for t.from > low {
			step := inTurn(j.PacketID(t.from-1), j.PacketID(t.from))
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
		step := inTurn(j.PacketID(t.end-1), j.PacketID(t.end))
		if step == 0 {
			t.from, t.span = t.end, 0
			continue
		}
		for t.span += step; t.span >= PacketIDs-1; t.from++ {
			t.span -= inTurn(j.PacketID(t.from), j.PacketID(t.from+1))
		}
	}
	return t
}

// byID finds the latest delivery under a packet id; 0: there is none, or ids were not
// assigned in turn since. proved means that the delivery before it is in turn as well, so
// that it is not the first of the broker's numbering.
func (j *Journal) byID(packetID uint16) (pos uint64, proved bool) {
	if j.End() == j.Low() {
		return 0, false
	}
	t := j.latestInTurn()
	first := j.PacketID(t.from)
	behind := idDistance(first, packetID)
	pos = t.from + uint64(sort.Search(int(t.end-t.from), func(i int) bool {
		return idDistance(first, j.PacketID(t.from+uint64(i))) >= behind
	}))
	if pos == t.end || j.PacketID(pos) != packetID {
		return 0, false
	}
	if pos <= le(j.header.start) || pos <= j.Oldest() {
		return pos, false
	}
	step := inTurn(j.PacketID(pos-1), packetID)
	return pos, step > 0 && idDistance(packetID, j.PacketID(t.end-1))+step < PacketIDs-1
}

// MayRenumber reports whether the first packet of a connection can have this id on a
// broker that numbers anew on each connection.
func (j *Journal) MayRenumber(packetID uint16) bool {
	return packetID == 1 || uint64(packetID) == le(j.header.first)
}

// SameRun reports whether the contents are those of the latest deliveries, up to the last.
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

// minHistory is the number of different contents from which Distinct may conclude that
// contents do not recur.
const minHistory = 100

// Distinct reports whether contents do not recur: no content from a position on occurs
// twice among the deliveries that are kept, and these have many contents.
func (j *Journal) Distinct(from uint64) bool {
	count := make(map[uint64]int)
	for pos := j.Oldest(); pos < j.End(); pos++ {
		count[le(j.at(pos).message)&ContentMask]++
	}
	if len(count) < minHistory { // few contents, many times: no evidence
		return false
	}
	for pos := from; pos < j.End(); pos++ {
		if count[le(j.at(pos).message)&ContentMask] > 1 {
			return false
		}
	}
	return true
}

// Resume records that the broker redelivers everything from a position on: the PUBACKs
// of earlier deliveries have arrived, those from it on have not. packetIDs are the new
// ones if the broker numbered anew, else nil.
func (j *Journal) Resume(from uint64, packetIDs []uint16) {
	h := j.header
	if packetIDs != nil {
		j.inOrder = idRange{} // of other ids
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

// Settle records that a connection begins with a message that is not redelivered: so
// nothing is. With keep the deliveries can still be found (attested topics).
func (j *Journal) Settle(packetID uint16, keep bool) {
	h, end := j.header, j.End()
	goesOn := end > le(h.start) && end > j.Oldest() && !j.MayRenumber(packetID) && inTurn(j.PacketID(end-1), packetID) > 0
	if !goesOn {
		set(&h.first, 0)
		set(&h.start, end)
		set(&h.first, uint64(packetID))
	}
	if !keep {
		set(&h.low, end)
	}
	set(&h.unsure, 0)
}

// SetUnsure records that recurring content proves nothing until the session is resumed.
func (j *Journal) SetUnsure() { set(&j.header.unsure, 1) }

// Unsure reports whether recurring content proves nothing.
func (j *Journal) Unsure() bool { return j.header.unsure != 0 }

// ByContent returns the positions of the deliveries that may be redelivered, by content:
// the key is the hash with [ContentMask].
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

// Find returns the number of a delivery and whether it is stored.
func (j *Journal) Find(pos uint64) (number uint64, stored bool) {
	e := j.at(pos)
	return le(e.number), le(e.message)&storedBit != 0
}

// ascending returns the last number, and whether the numbers ascend, as they do in an
// undamaged file.
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
