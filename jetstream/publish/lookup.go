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

// LookupOptions configure lookups of messages that JetStream's deduplication may have forgotten.
// All fields are required.
type LookupOptions struct {
	// Window returns the shortest duplicate window of the streams. It does no I/O.
	Window func() time.Duration
	// StreamOf returns the name of the stream that stores a subject. It returns "" if that is
	// unknown; messages are then sent without a lookup. It does no I/O.
	StreamOf func(subject string) string
	// API is the prefix of the subjects of JetStream's API, as returned by [conn.Options.API].
	API string
}

// lookups are the queries to the streams before messages are resent. JetStream drops a message
// whose id it has seen within the duplicate window. A message that may have been stored before that
// window is looked up in its stream: by subject, from the time of the first attempt on, by the id
// in its header. If it is found, it is settled as a duplicate. Otherwise it is sent, and the time
// of the lookup counts as its first attempt.
//
// The queries go to the leader (STREAM.MSG.GET). A direct get may be answered by a follower that
// lags behind, and its "not found" would lead to a second copy.
type lookups struct {
	active    bool
	round     uint32 // distinguishes the answers from those of earlier rounds
	startedAt time.Time
	progress  time.Time // time of the latest answer
	scans     []*scan
	next      int // first scan that has not started
	pending   int // queries without an answer
	answered  int
	// denied is the reason why queries are not permitted on this connection.
	denied     error
	generation uint64 // the connection that denied refers to
}

// scan walks the messages of one subject. Its first query reads the server's clock, to which the
// time of the first attempt is converted.
type scan struct {
	stream, subject string
	age             time.Duration // of the oldest first attempt when the scan started, plus its margin
	from            time.Time     // zero: the clock has not been read yet
	seq             uint64        // where the next query begins; 0: at from
	askedAt         time.Time     // time of the latest query
	ids             map[string]uint64
	found           []uint64
}

const (
	// lookupsInFlight bounds the queries of one publisher. nats-server drops its whole API queue
	// beyond 10,000 requests, and a fleet shares it.
	lookupsInFlight = 64
	// startMargin covers the clock difference between a cluster's servers.
	startMargin = 10 * time.Second
	// foreignMargin covers the clock difference of another process that recorded a first attempt.
	foreignMargin = time.Minute
	// lateTimer is the lateness of a timer from which the process is assumed to have been
	// suspended.
	lateTimer = 500 * time.Millisecond
)

// resendMargin is how much earlier than the duplicate window a message counts as forgotten. It
// covers the clock difference between servers and the time that a message may be in flight: as long
// as nats.go takes to detect a dead path, twice [conn.PingInterval].
func resendMargin(window time.Duration) time.Duration { return min(window/4, 25*time.Second) }

// uncommitted is how long a leader can have had a message that its answers do not include. A leader
// without a quorum remains leader for up to 20 s (nats-server's lostQuorumInterval and
// lostQuorumCheck), and its successor may store the message with its original time of arrival.
func uncommitted(window time.Duration) time.Duration { return min(window/4, 20*time.Second) }

// LookupSubject returns the request subject for a stream. With empty arguments it returns the part
// that all these subjects have in common.
func LookupSubject(api, stream string) string { return api + ".STREAM.MSG.GET." + stream }

// ErrLookupDenied means that the NATS user lacks the permission for lookups in the streams.
var ErrLookupDenied = errors.New("lookups in the streams are not permitted")

// mayBeForgotten reports whether JetStream may have stored e and forgotten its id.
func (p *Publisher) mayBeForgotten(e *entry, now time.Time) bool {
	o := p.opts.Lookup
	if o == nil || e.firstAttempt.IsZero() || e.done || e.id == e.subject || p.lookupsDenied() {
		return false
	}
	window := o.Window()
	return e.age(now) > window-resendMargin(window)
}

// age returns an upper bound of the time since the first attempt.
func (e *entry) age(now time.Time) time.Duration {
	age := elapsed(e.firstAttempt, now)
	if e.fromCaller {
		age += foreignMargin
	}
	return age
}

// elapsed returns the time between two moments, by the clock that has advanced further. The
// monotonic clock stops while the machine is suspended, and the wall clock may be set back.
func elapsed(from, to time.Time) time.Duration {
	return max(to.Sub(from), to.Round(0).Sub(from.Round(0)))
}

func (p *Publisher) lookupsDenied() bool {
	return p.lookups.denied != nil && p.lookups.generation == p.link.Generation()
}

// lookUp queries the streams for every unsettled message from seq on that may be forgotten. It
// reports false if there is nothing to wait for.
func (p *Publisher) lookUp(from uint64) bool {
	l := &p.lookups
	if l.active {
		return true
	}
	now := time.Now()
	*l = lookups{active: true, round: l.round + 1, startedAt: now, progress: now, scans: l.scans[:0]}
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
			e.recordLookup(now, 0) // no stream to query
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
	p.startScans()
	return true
}

// startScans starts scans, but none after a quarter of the time for which an answer is valid. The
// remaining messages are looked up when they are due to be sent. At most one query more is in flight
// than has been answered, so that those in flight take hardly longer than the answers so far, however
// slow the server is. Otherwise the first answers would expire before the last ones arrive, and the
// same queries would begin again, forever.
func (p *Publisher) startScans() {
	l := &p.lookups
	if !l.active {
		return // a request could not be sent
	}
	window := p.opts.Lookup.Window()
	if valid := window - resendMargin(window) - uncommitted(window); time.Since(l.startedAt) > valid/4 && l.next > 0 {
		clear(l.scans[l.next:])
		l.scans = l.scans[:l.next]
	}
	for l.active && l.pending < min(1+l.answered, lookupsInFlight) && l.next < len(l.scans) {
		l.next++
		p.sendQuery(l.next - 1)
	}
}

// sendQuery sends the next query of a scan.
func (p *Publisher) sendQuery(index int) {
	l := &p.lookups
	s := l.scans[index]
	s.askedAt = time.Now()
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

// lookupAnswer contains the relevant fields of both kinds of answers.
type lookupAnswer struct {
	Error   *APIError `json:"error"`
	Created time.Time `json:"created"` // of the stream; ts is its server's clock
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

// parseLookupReply parses round and scan from the last two tokens of a reply subject.
func parseLookupReply(s string) (round uint32, index int, ok bool) {
	at := strings.LastIndexByte(s, '-') + 1
	first, second, dot := strings.Cut(s[at:], ".")
	r, err1 := strconv.ParseUint(first, 36, 32)
	i, err2 := strconv.ParseInt(second, 36, 32)
	return uint32(r), int(i), at > 0 && dot && err1 == nil && err2 == nil
}

// handleLookupReply handles the answer to a query. open is false once the publisher is closed.
func (p *Publisher) handleLookupReply(m *nats.Msg) (open bool) {
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
	l := &p.lookups
	if p.closed || !l.active || round != l.round || index >= l.next {
		open = !p.closed
		p.mu.Unlock()
		return open
	}
	l.pending--
	l.answered++
	l.progress = time.Now()
	more := false
	if err == nil {
		more, err = l.scans[index].apply(&a, elapsed(l.startedAt, l.progress))
	}
	if err != nil {
		p.recovery.pause = min(2*p.recovery.pause, maxPause)
		p.recover(err)
		p.mu.Unlock()
		return true
	}
	if more {
		p.sendQuery(index)
	}
	p.startScans()
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

// apply applies an answer and reports whether another query is needed. The server read its clock
// between the request and the arrival of the answer. The answer may have been in flight for long,
// so the age is calculated for its arrival.
func (s *scan) apply(a *lookupAnswer, since time.Duration) (more bool, err error) {
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
		return false, fmt.Errorf("%w: an answer to another query", ErrBadAck)
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
	l := &p.lookups
	hits := map[uint64]bool{}
	for _, s := range l.scans {
		for _, seq := range s.found {
			hits[seq] = true
		}
		for _, seq := range s.ids {
			if seq >= p.win.head {
				p.win.at(seq).recordLookup(s.askedAt, uncommitted(p.opts.Lookup.Window()))
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
		p.win.markSent(seq)
		p.win.settle(seq)
	}
	p.endLookups()
	p.stats.Found += uint64(len(found))
	p.opts.Log.Debug().Int("found", len(found)).Msg("lookups finished")
	if p.win.head != head {
		p.progress = time.Now()
	}
	p.continueSending()
	return found
}

// continueSending sends the messages that waited for lookups.
func (p *Publisher) continueSending() {
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

// lookupsPending reports whether queries are in flight, and abandons them if the streams have been
// silent for too long.
func (p *Publisher) lookupsPending() bool {
	l := &p.lookups
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
	p.lookups.active = false
	clear(p.lookups.scans)
	p.lookups.scans = p.lookups.scans[:0]
}

// denyLookups ends the lookups if the server does not permit them. Messages that JetStream may have
// forgotten are then resent, as without lookups.
func (p *Publisher) denyLookups(err error) {
	p.endLookups()
	p.lookups.denied = fmt.Errorf("%w: %w", ErrLookupDenied, err)
	p.lookups.generation = p.link.Generation()
	p.withAdvice(p.opts.Log.Warn().Str("component", "streams"), p.lookups.denied).
		Msg("lookups are not permitted, resending messages that JetStream's deduplication may have forgotten")
	p.continueSending()
}

// isLookupDenial reports whether a permission violation concerns a query.
func isLookupDenial(err error) bool {
	return strings.Contains(err.Error(), LookupSubject("", "")) || strings.Contains(err.Error(), ".STREAM.INFO.")
}
