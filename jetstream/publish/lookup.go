package publish

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/jetstream/conn"
)

// LookupOptions let a publisher look up in a stream what JetStream's deduplication may have
// forgotten. All fields are required.
type LookupOptions struct {
	// Window returns the shortest duplicate window of the streams. No I/O, as StreamOf.
	Window func() time.Duration
	// StreamOf returns the name of the stream that stores a subject; empty: it is not known, and
	// its messages are sent without a lookup.
	StreamOf func(subject string) string
	// API begins the subjects of JetStream's API, as in [conn.Options.API].
	API string
}

// lookups are the requests to the streams before a message is sent again. JetStream drops a message
// whose id it has seen within the duplicate window. A message that may have been stored before that
// window is looked up in its stream: by subject, from the time of the first attempt on, by the id
// in its header. If found, it is settled as a duplicate. Otherwise it is sent, and the time of the
// lookup counts as its first attempt.
//
// The requests go to the leader (STREAM.MSG.GET). A direct get may be answered by a follower that
// lags behind, and its "not found" would lead to a second copy.
type lookups struct {
	active   bool
	round    uint32 // distinguishes the answers from those to earlier questions
	began    time.Time
	progress time.Time // the latest answer
	scans    []*scan
	next     int // the first scan that has not begun
	pending  int // questions without an answer
	// denied is why the streams cannot be asked on this connection.
	denied     error
	generation uint64 // of that connection
}

// scan walks the messages of one subject. Its first question is for the server's
// clock, to which the time of the first attempt is converted.
type scan struct {
	stream, subject string
	age             time.Duration // of the oldest first attempt when it began, with its margin
	from            time.Time     // zero: the clock has not been asked yet
	seq             uint64        // where the next question begins; 0: at from
	asked           time.Time     // the latest question
	ids             map[string]uint64
	found           []uint64
}

const (
	// lookupsInFlight bounds the questions of one publisher. nats-server drops all
	// of its API queue beyond 10,000 requests, and a fleet shares it.
	lookupsInFlight = 64
	// startMargin covers how much the clocks of a cluster's servers differ.
	startMargin = 10 * time.Second
	// foreignMargin is how much the clock may differ by which another process noted
	// a first attempt.
	foreignMargin = time.Minute
	// lateTimer is the lateness of a timer that shows that the process has not run.
	lateTimer = 500 * time.Millisecond
)

// resendMargin is how much earlier than the duplicate window a message counts as
// forgotten: the time that a message may be in flight, which is as long as nats.go takes to
// notice that a path is dead ([conn.PingInterval], twice), and how much servers' clocks differ.
func resendMargin(window time.Duration) time.Duration { return min(window/4, 25*time.Second) }

// uncommitted is how long a leader can have had a message that its answers do not include: a
// leader without a quorum stays one for up to 20 s (nats-server's lostQuorumInterval and
// lostQuorumCheck), and its successor may store the message under the time at which it came.
func uncommitted(window time.Duration) time.Duration { return min(window/4, 20*time.Second) }

// LookupSubject returns the request subject of a stream. With empty arguments it is the prefix that
// all these subjects have in common.
func LookupSubject(api, stream string) string { return api + ".STREAM.MSG.GET." + stream }

// ErrLookupDenied means that the NATS user lacks the permission for lookups in its streams.
var ErrLookupDenied = errors.New("lookups in the streams are not permitted")

// mayBeForgotten reports whether JetStream may have stored e and forgotten its id.
func (p *Publisher) mayBeForgotten(e *entry, now time.Time) bool {
	o := p.opts.Lookup
	if o == nil || e.first.IsZero() || e.done || e.id == e.subject || p.lookupsDenied() {
		return false
	}
	window := o.Window()
	return e.age(now) > window-resendMargin(window)
}

// age returns the longest time since the first attempt.
func (e *entry) age(now time.Time) time.Duration {
	age := elapsed(e.first, now)
	if e.foreign {
		age += foreignMargin
	}
	return age
}

// elapsed returns the time between two moments by the clock that has advanced further: the
// monotonic clock stops while the machine is suspended, the wall clock may be set back.
func elapsed(from, to time.Time) time.Duration {
	return max(to.Sub(from), to.Round(0).Sub(from.Round(0)))
}

func (p *Publisher) lookupsDenied() bool {
	return p.looking.denied != nil && p.looking.generation == p.link.Generation()
}

// lookUp asks the streams for every unsettled message from seq on that may be
// forgotten. It reports false if there is nothing to wait for.
func (p *Publisher) lookUp(from uint64) bool {
	l := &p.looking
	if l.active {
		return true
	}
	now := time.Now()
	*l = lookups{active: true, round: l.round + 1, began: now, progress: now, scans: l.scans[:0]}
	bySubject := map[string]*scan{}
	for seq := from; seq < p.win.tail; seq++ {
		e := p.win.at(seq)
		if !p.mayBeForgotten(e, now) {
			continue
		}
		s := bySubject[string(e.buf[:e.subject])]
		if s == nil {
			subject := string(e.buf[:e.subject])
			s = &scan{subject: subject, stream: p.opts.Lookup.StreamOf(subject), ids: map[string]uint64{}}
			bySubject[subject] = s
			if s.stream != "" {
				l.scans = append(l.scans, s)
			}
		}
		if s.stream == "" {
			e.asked(now, 0) // no stream to ask
			continue
		}
		s.ids[string(e.buf[e.subject:e.id])] = seq
		s.age = max(s.age, e.age(now)+startMargin)
	}
	if len(l.scans) == 0 {
		p.endLookups()
		return false
	}
	p.stats.Lookups += uint64(len(l.scans))
	p.opts.Log.Debug().Int("subjects", len(l.scans)).Msg("looking up messages that JetStream's deduplication may have forgotten")
	p.schedule(p.opts.AckTimeout)
	p.beginScans()
	return true
}

// beginScans begins scans as far as the bound allows, but none after half of the time for which an
// answer is valid. The rest is looked up when it is due to be sent. Otherwise the first answers
// would expire before the last ones arrive.
func (p *Publisher) beginScans() {
	l := &p.looking
	if !l.active {
		return // a request could not be sent
	}
	window := p.opts.Lookup.Window()
	if time.Since(l.began) > (window-resendMargin(window))/2 && l.next > 0 {
		clear(l.scans[l.next:])
		l.scans = l.scans[:l.next]
	}
	for l.active && l.pending < lookupsInFlight && l.next < len(l.scans) {
		l.next++
		p.ask(l.next - 1)
	}
}

// ask sends the next question of a scan.
func (p *Publisher) ask(index int) {
	l := &p.looking
	s := l.scans[index]
	s.asked = time.Now()
	api := p.opts.Lookup.API
	m := nats.Msg{Reply: fmt.Sprintf("%s-%s.%s", p.inbox, strconv.FormatUint(uint64(l.round), 36), strconv.FormatInt(int64(index), 36))}
	if s.from.IsZero() {
		m.Subject = api + ".STREAM.INFO." + s.stream
	} else {
		m.Subject = LookupSubject(api, s.stream)
		request := map[string]any{"next_by_subj": s.subject}
		if s.seq > 0 {
			request["seq"] = s.seq
		} else {
			request["start_time"] = s.from
		}
		m.Data, _ = json.Marshal(request)
	}
	if err := p.link.PublishMsg(&m); err != nil {
		if !p.link.IsConnected() {
			err = conn.ErrDisconnected
		}
		p.recover(err)
		return
	}
	l.pending++
}

// lookupAnswer has the relevant fields of both kinds of answers.
type lookupAnswer struct {
	Error   *APIError `json:"error"`
	Created time.Time `json:"created"` // of the stream, and its server's clock:
	TS      time.Time `json:"ts"`
	Message *struct {
		Seq  uint64 `json:"seq"`
		Hdrs []byte `json:"hdrs"`
	} `json:"message"`
}

const (
	errCodeNoMessage = 10037
	errCodeNoStream  = 10059
)

// parseLookupReply reads round and scan from the last two tokens of a reply subject.
func parseLookupReply(s string) (round uint32, index int, ok bool) {
	at := strings.LastIndexByte(s, '-') + 1
	first, second, dot := strings.Cut(s[at:], ".")
	r, err1 := strconv.ParseUint(first, 36, 32)
	i, err2 := strconv.ParseInt(second, 36, 32)
	return uint32(r), int(i), at > 0 && dot && err1 == nil && err2 == nil
}

// lookedUp takes the answer to a question. open is false once the publisher is closed.
func (p *Publisher) lookedUp(m *nats.Msg) (open bool) {
	round, index, ok := parseLookupReply(m.Subject)
	if !ok {
		return true
	}
	var a lookupAnswer
	err := json.Unmarshal(m.Data, &a)
	switch {
	case len(m.Data) == 0 && m.Header.Get("Status") == "503":
		err = ErrNoResponders
	case err != nil:
		err = fmt.Errorf("%w: %w", ErrBadAck, err)
	case a.Error != nil && a.Error.ErrCode != errCodeNoMessage && a.Error.ErrCode != errCodeNoStream:
		err = a.Error
	}
	p.mu.Lock()
	l := &p.looking
	if p.closed || !l.active || round != l.round || index >= l.next {
		open = !p.closed
		p.mu.Unlock()
		return open
	}
	l.pending--
	l.progress = time.Now()
	more := false
	if err == nil {
		more, err = l.scans[index].take(&a, elapsed(l.began, l.progress))
	}
	if err != nil {
		p.recovery.pause = min(2*p.recovery.pause, maxPause)
		p.recover(err)
		p.mu.Unlock()
		return true
	}
	if more {
		p.ask(index)
	}
	p.beginScans()
	var results []bridge.Result
	if l.active && l.pending == 0 && l.next == len(l.scans) {
		results = p.concludeLookups()
	}
	p.mu.Unlock()
	for i := range results {
		p.opts.Settler.Settle(&results[i])
	}
	return true
}

// take reads an answer and reports whether there is more to ask. The server read its clock between
// the request and the arrival of the answer. The answer may have been in flight for long, so the
// age is taken at its arrival.
func (s *scan) take(a *lookupAnswer, since time.Duration) (more bool, err error) {
	switch {
	case a.Error != nil:
		return false, nil
	case s.from.IsZero() && (!a.TS.IsZero() || !a.Created.IsZero()):
		if a.TS.IsZero() {
			a.TS = time.Now() // servers before 2.10 do not report their time
		}
		s.from = a.TS.Add(-s.age - since).UTC()
		return true, nil
	case s.from.IsZero() || a.Message == nil:
		return false, fmt.Errorf("%w: an answer to another question", ErrBadAck)
	}
	s.seq = a.Message.Seq + 1
	if h, err := nats.DecodeHeadersMsg(a.Message.Hdrs); err == nil {
		if seq, ok := s.ids[h.Get(nats.MsgIdHdr)]; ok {
			s.found = append(s.found, seq)
			delete(s.ids, h.Get(nats.MsgIdHdr))
		}
	}
	return len(s.ids) > 0, nil
}

// concludeLookups settles the messages found and sends those that may follow.
func (p *Publisher) concludeLookups() (found []bridge.Result) {
	l := &p.looking
	hits := map[uint64]bool{}
	for _, s := range l.scans {
		for _, seq := range s.found {
			hits[seq] = true
		}
		for _, seq := range s.ids {
			if seq >= p.win.head {
				p.win.at(seq).asked(s.asked, uncommitted(p.opts.Lookup.Window()))
			}
		}
	}
	head := p.win.head
	for seq := head; seq < p.win.tail; seq++ {
		e := p.win.at(seq)
		if !hits[seq] || e.done {
			continue
		}
		found = append(found, bridge.Result{Token: e.token, Duplicate: true})
		p.inFlightKeys.end(e)
		p.win.reach(seq)
		p.win.settle(seq)
	}
	p.endLookups()
	p.stats.Found += uint64(len(found))
	p.opts.Log.Debug().Int("found", len(found)).Msg("lookups finished")
	if p.win.head != head {
		p.progress = time.Now()
	}
	p.goOn()
	return found
}

// goOn sends the messages that waited for lookups.
func (p *Publisher) goOn() {
	switch {
	case p.recovery.active && p.win.len() == 0:
		p.resume()
	case p.recovery.active:
		p.schedule(immediately)
	default:
		p.pump()
		p.arm(p.opts.AckTimeout)
	}
}

// awaitsLookups reports whether requests are in flight, and abandons them when the streams have
// been silent for too long.
func (p *Publisher) awaitsLookups() bool {
	l := &p.looking
	if !l.active {
		return false
	}
	silence := time.Since(l.progress)
	if silence >= p.opts.AckTimeout {
		p.recovery.pause = min(2*p.recovery.pause, maxPause)
		p.recover(ErrAckTimeout)
		return true
	}
	p.schedule(max(p.opts.AckTimeout-silence, minPause))
	return true
}

func (p *Publisher) endLookups() {
	p.looking.active = false
	clear(p.looking.scans)
	p.looking.scans = p.looking.scans[:0]
}

// denyLookups ends the lookups if the server does not permit them: messages that JetStream may have
// forgotten are then sent again, as without lookups.
func (p *Publisher) denyLookups(err error) {
	p.endLookups()
	p.looking.denied = fmt.Errorf("%w: %w", ErrLookupDenied, err)
	p.looking.generation = p.link.Generation()
	p.opts.Log.Warn().Str("component", "streams").AnErr("problem", err).Msg("lookups are not permitted, resending messages that JetStream's deduplication may have forgotten")
	p.goOn()
}

// isLookupDenial reports whether a permission violation is about a question.
func isLookupDenial(err error) bool {
	return strings.Contains(err.Error(), LookupSubject("", "")) || strings.Contains(err.Error(), ".STREAM.INFO.")
}
