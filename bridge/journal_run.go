package bridge

import "sort"

// What the journal says of a redelivery run; DESIGN.md, "Redelivery", has the proof.

// inTurn returns how many packet ids lie between two that were given out one after
// the other, at least 1; 0 where the second does not follow the first in turn.
func inTurn(first, second uint16) uint64 {
	d := idDistance(first, second)
	if d > packetIDs/2 {
		return 0
	}
	return d
}

// startByID finds the delivery that a run would begin with whose first packet has this
// id and content, on a broker that keeps its packet ids. The ids must have been given
// out in turn from the delivery before it to the latest: then no message that
// came after the latest can have one of them, and a broker that numbers anew on each
// connection would not have come to it, unless it is the id that such a broker begins
// with. Where the run begins with the first delivery that was never acknowledged, there
// is nothing to prove by ids: it must begin there at the latest.
func (j *Journal) startByID(packetID uint16, hash uint64) (pos uint64, ok bool) {
	pos, proved := j.byID(packetID)
	if pos == 0 || pos > j.unacked() || !j.sameContent(pos, hash) {
		return 0, false
	}
	return pos, proved && !j.mayRenumber(packetID) || pos == j.unacked()
}

// sentAgain finds the delivery that a broker sends again on the connection that it was
// acknowledged on: the two have crossed.
func (j *Journal) sentAgain(packetID uint16, hash uint64) (pos uint64, ok bool) {
	if end := j.end(); end == j.low() || inTurn(j.packetID(end-1), packetID) > 0 {
		return 0, false
	}
	pos, proved := j.byID(packetID)
	// Within a connection nothing is numbered anew: the first needs only a successor.
	proved = proved || pos > 0 && pos == le(j.header.start) && pos+1 < j.end()
	return pos, proved && j.sameContent(pos, hash)
}

// idRange is the range of the latest deliveries, from low at the earliest, whose packet ids were
// given out in turn and span less than all there are: each id occurs once in it, in order. It is
// kept from call to call, so that a broker that sends a whole window again, many times, costs a
// search each and not a scan. Zero: not known.
type idRange struct {
	from, end uint64 // positions
	span      uint64 // of the ids, from the first to the last
}

// idDistance is how far the second packet id lies behind the first, around the circle.
func idDistance(first, second uint16) uint64 {
	return uint64((int(second) - int(first) + packetIDs - 1) % (packetIDs - 1))
}

// latestInTurn brings the range up to date. There is at least one delivery.
func (j *Journal) latestInTurn() *idRange {
	t, end, low := &j.inOrder, j.end(), j.low()
	if t.end <= low || t.end > end { // not known, or all of it is gone
		*t = idRange{end - 1, end, 0}
		for t.from > low {
			step := inTurn(j.packetID(t.from-1), j.packetID(t.from))
			if step == 0 || t.span+step >= packetIDs-1 {
				break
			}
			t.from, t.span = t.from-1, t.span+step
		}
		return t
	}
	if t.from < low {
		t.from, t.span = low, idDistance(j.packetID(low), j.packetID(t.end-1))
	}
	for ; t.end < end; t.end++ {
		step := inTurn(j.packetID(t.end-1), j.packetID(t.end))
		if step == 0 {
			t.from, t.span = t.end, 0
			continue
		}
		for t.span += step; t.span >= packetIDs-1; t.from++ {
			t.span -= inTurn(j.packetID(t.from), j.packetID(t.from+1))
		}
	}
	return t
}

// byID finds the latest delivery under a packet id; 0: there is none, or ids were not
// given out in turn since. proved: nor is it the first of the broker's numbering.
func (j *Journal) byID(packetID uint16) (pos uint64, proved bool) {
	if j.end() == j.low() {
		return 0, false
	}
	t := j.latestInTurn()
	first := j.packetID(t.from)
	behind := idDistance(first, packetID)
	pos = t.from + uint64(sort.Search(int(t.end-t.from), func(i int) bool {
		return idDistance(first, j.packetID(t.from+uint64(i))) >= behind
	}))
	if pos == t.end || j.packetID(pos) != packetID {
		return 0, false
	}
	if pos <= le(j.header.start) || pos <= j.oldest() {
		return pos, false
	}
	step := inTurn(j.packetID(pos-1), packetID)
	return pos, step > 0 && idDistance(packetID, j.packetID(t.end-1))+step < packetIDs-1
}

// mayRenumber reports whether a connection whose first packet has this id can be one of
// a broker that numbers anew on each connection.
func (j *Journal) mayRenumber(packetID uint16) bool {
	return packetID == 1 || uint64(packetID) == le(j.header.first)
}

// sameRun reports whether the contents are those of the latest deliveries, to the last.
func (j *Journal) sameRun(hashes []uint64) bool {
	pos := j.end() - uint64(len(hashes))
	for _, h := range hashes {
		if !j.sameContent(pos, h) {
			return false
		}
		pos++
	}
	return true
}

// minHistory is how many different contents it takes to say that contents do not recur.
const minHistory = 100

// distinct reports whether contents do not recur here: no content from a position on
// occurs twice among the deliveries that are kept, and these have many.
func (j *Journal) distinct(from uint64) bool {
	count := make(map[uint64]int)
	for pos := j.oldest(); pos < j.end(); pos++ {
		count[le(j.at(pos).message)&hashMask]++
	}
	if len(count) < minHistory { // few contents, many times: no evidence
		return false
	}
	for pos := from; pos < j.end(); pos++ {
		if count[le(j.at(pos).message)&hashMask] > 1 {
			return false
		}
	}
	return true
}

// resume notes that the broker redelivers everything from a position on: what came
// before it has arrived, and no PUBACK of what comes from it on has. The packet
// ids are new ones where the broker numbered anew; else nil.
func (j *Journal) resume(from uint64, packetIDs []uint16) {
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

// settle notes that a connection begins with a message that is not redelivered: so
// nothing is. keep leaves the deliveries findable (attested topics).
func (j *Journal) settle(packetID uint16, keep bool) {
	h, end := j.header, j.end()
	goesOn := end > le(h.start) && end > j.oldest() && !j.mayRenumber(packetID) && inTurn(j.packetID(end-1), packetID) > 0
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

// setUnsure notes that content which recurs proves nothing until the session is
// resumed.
func (j *Journal) setUnsure() { set(&j.header.unsure, 1) }

func (j *Journal) unsure() bool { return j.header.unsure != 0 }

// byContent returns the positions of the deliveries that are kept, by content.
func (j *Journal) byContent() map[uint64]uint64 {
	positions := make(map[uint64]uint64, j.end()-j.low())
	for pos := j.low(); pos < j.end(); pos++ {
		positions[le(j.at(pos).message)&hashMask] = pos
	}
	return positions
}

// contains reports whether a delivery that is kept has this content.
func (j *Journal) contains(hash uint64) bool {
	for pos := j.low(); pos < j.end(); pos++ {
		if j.sameContent(pos, hash) {
			return true
		}
	}
	return false
}

// find returns the number of a delivery and whether it is stored.
func (j *Journal) find(pos uint64) (number uint64, stored bool) {
	e := j.at(pos)
	return le(e.number), le(e.message)&storedBit != 0
}

// ascending reports whether the numbers ascend, as they do in a file that is whole, and
// returns the last.
func (j *Journal) ascending() (last uint64, ok bool) {
	for pos := j.oldest(); pos < j.end(); pos++ {
		number := le(j.at(pos).number)
		if number <= last || j.packetID(pos) == 0 {
			return 0, false
		}
		last = number
	}
	return last, true
}
