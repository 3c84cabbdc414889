package simulate

import (
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	mainStream       = "TELEMETRY"
	quarantineStream = "QUARANTINE"

	// duplicateWindow is the streams'.
	duplicateWindow = 2 * time.Minute
)

// refusals are the ways in which streams do not take a message for now. An empty
// body stands for status 503, - for no answer at all.
var refusals = []string{
	"-", "-",
	"", "",
	`{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"TELEMETRY","seq":0}`,
	`{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}`,
	`{"error":{"code":500,"err_code":10009,"description":"not the leader"}}`,
	`{"error":{"code":500,"err_code":10118,"description":"stream is offline"}}`,
	`{"error":{"code":429,"err_code":10167,"description":"too many requests"}}`,
	`{"error":{"code":500,"err_code":10023,"description":"insufficient resources"}}`,
	`{"error":{"code":500,"err_code":10028,"description":"resource limits exceeded for server"}}`,
	`{"error":{"code":500,"err_code":10047,"description":"insufficient storage"}}`,
	`{"error":{"code":400,"err_code":10002,"description":"resource limits exceeded for account"}}`,
	`{"error":{"code":400,"err_code":10060,"description":"expected stream does not match"}}`,
	`{"error":{"code":400,"err_code":10109,"description":"invalid operation on sealed stream"}}`,
	`{"error":{"code":503,"err_code":10076,"description":"JetStream not enabled"}}`,
	`{"error":{"code":503,"err_code":10039,"description":"JetStream not enabled for account"}}`,
	`{"error":{"code":500,"err_code":99999,"description":"of a later version"}}`,
	`{"stream":"TELEMETRY"}`,
	`+ERR`,
}

const (
	refuseForGood = `{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"},"stream":"TELEMETRY","seq":0}`
	// inFlightAlready is what a replicated stream says to an id whose first
	// copy is not safe yet.
	inFlightAlready = `{"error":{"code":409,"err_code":10158,"description":"duplicate message id is in process"},"stream":"TELEMETRY","seq":0}`
)

// server is JetStream: two streams, which start and stop taking messages
// together.
type server struct {
	held    map[string]entry // by stream and id
	log     []entry          // in the order of storing; [safe:] can be forgotten
	safe    int
	refuses string // how; empty body is "503"
	faulty  bool
	mask    int              // ragged: which of the messages
	seen    int              // messages under the fault
	met     map[meeting]bool // who has met the fault
	lastBad time.Time        // when somebody first did
	skew    time.Duration    // of the leader's clock against the bridge's
	stale   int              // a replica that lags has log[:stale]
	newest  map[int]*letter
}

// meeting is a bridge's first knowledge of a fault by one of its messages.
type meeting struct {
	letter *letter
	bridge *process
}

// entry is one stored message.
type entry struct {
	*letter
	key     string // stream and id
	subject string
	reply   string
	from    *socket
	at      time.Time // on the wall
	stamp   time.Time // on the leader's clock
}

// store has the server take n messages from one of the connections.
func (w *world) store(n, which int) {
	var open []*socket
	for _, s := range w.sockets {
		if len(s.msgs) > 0 {
			open = append(open, s)
		}
	}
	if len(open) == 0 {
		return
	}
	s := open[which%len(open)]
	for range min(n, len(s.msgs)) {
		m := s.msgs[0]
		s.msgs = s.msgs[1:]
		w.take(m, s)
	}
	w.sweep()
}

// sweep forgets dead connections with nothing in them.
func (w *world) sweep() {
	kept := w.sockets[:0]
	for _, s := range w.sockets {
		if !s.dead || len(s.msgs) > 0 {
			kept = append(kept, s)
		}
	}
	clear(w.sockets[len(kept):])
	w.sockets = kept
}

// take is what a stream does with a message.
func (w *world) take(m sent, from *socket) {
	v := &w.server
	if m.letter == nil {
		w.lookUp(m, from)
		return
	}
	if v.faulty {
		v.seen++
		if !w.setup.Ragged || v.mask>>(v.seen%12)&1 == 1 {
			if by := (meeting{m.letter, from.link.p}); !v.met[by] {
				v.met[by], v.lastBad = true, time.Now()
			}
			w.logf("the server refuses message %d: %q", m.number, v.refuses)
			if v.refuses != "-" {
				w.reply(from, m.reply, v.refuses)
			}
			return
		}
	}
	key := m.stream + " " + m.id
	if held, ok := v.held[key]; ok && v.now().Sub(held.stamp) <= duplicateWindow {
		// Equal messages are interchangeable, where one of them is stored already.
		equal := held.topic == m.topic && held.payload == m.letter.payload && (held.excused || m.safe())
		if held.letter != m.letter && !equal {
			w.fail(falseDuplicate, "message %d is dropped as a duplicate of message %d: %s", m.number, held.number, m.id)
		}
		if w.copyOf(held.letter, key).safe {
			w.logf("the server has message %d already", m.number)
			w.reply(from, m.reply, `{"stream":"TELEMETRY","seq":1,"duplicate": true}`)
		} else {
			w.reply(from, m.reply, inFlightAlready)
		}
		return
	}
	if m.stream == mainStream && strings.HasPrefix(m.payload, "refuse") || strings.HasPrefix(m.payload, "never") {
		w.logf("the server refuses message %d for good", m.number)
		w.reply(from, m.reply, refuseForGood)
		return
	}
	w.logf("%s stores message %d", m.stream, m.number)
	w.judgeStored(m, from)
	e := entry{letter: m.letter, key: key, subject: m.subject, reply: m.reply, from: from, at: time.Now(), stamp: v.now()}
	v.held[key] = e
	v.log = append(v.log, e)
	m.copies = append(m.copies, copied{stream: m.stream, subject: m.subject, id: m.id, at: e.at, life: from.link.p.life})
	if !w.setup.Replicated {
		w.commit(1)
	}
}

// copyOf finds a letter's copy in a stream.
func (w *world) copyOf(l *letter, key string) *copied {
	for i := len(l.copies) - 1; i >= 0; i-- {
		if c := &l.copies[i]; c.stream+" "+c.id == key {
			return c
		}
	}
	panic(fmt.Sprintf("message %d has no copy %s", l.number, key))
}

// commit makes the oldest n stored messages safe and answers them.
func (w *world) commit(n int) {
	v := &w.server
	for range n {
		if v.safe == len(v.log) || w.leaderless() {
			return
		}
		e := v.log[v.safe]
		v.safe++
		w.copyOf(e.letter, e.key).safe = true
		w.reply(e.from, e.reply, `{"stream":"TELEMETRY","seq":1}`)
	}
}

// reply sends an answer to where the message came from, if that still listens.
func (w *world) reply(to *socket, subject, body string) {
	if w.process == nil || to.link != w.process.link || !to.link.hears() {
		return
	}
	m := nats.Msg{Subject: subject, Data: []byte(body)}
	if body == "" {
		m.Header = nats.Header{"Status": {"503"}}
	}
	w.answers = append(w.answers, answered{m, strings.HasPrefix(body, `{"stream":"TELEMETRY","seq"`), time.Now()})
}

// fault has the streams refuse from now on.
func (w *world) fault(how, mask int) {
	v := &w.server
	if !v.faulty {
		v.faulty, v.refuses, v.mask, v.lastBad = true, refusals[how%len(refusals)], mask, time.Now()
		v.met = map[meeting]bool{}
		w.logf("the streams begin to refuse: %q", v.refuses)
	}
}

// leader is a leader that dies: its successor has kept of what was not safe, and
// until it is elected nothing is taken.
func (w *world) leader(kept int, silent bool) {
	v := &w.server
	if !w.setup.Replicated || v.faulty {
		return
	}
	if silent {
		w.fault(0, -1)
	} else {
		w.fault(2, -1)
	}
	v.stale = v.safe
	v.skew = w.skew(kept)
	gone := v.log[min(v.safe+kept, len(v.log)):]
	for _, e := range gone {
		w.logf("the new leader does not have message %d", e.number)
		delete(v.held, e.key)
		c := w.copyOf(e.letter, e.key)
		e.copies = without(e.copies, c)
		if v.newest[e.device] == e.letter {
			delete(v.newest, e.device)
		}
	}
	v.log = v.log[:len(v.log)-len(gone)]
	w.renew()
}

func without(all []copied, one *copied) (rest []copied) {
	for i := range all {
		if &all[i] != one {
			rest = append(rest, all[i])
		}
	}
	return rest
}

// renew finds the newest message of each device again.
func (w *world) renew() {
	v := &w.server
	clear(v.newest)
	for _, e := range v.log {
		if n := v.newest[e.device]; strings.HasPrefix(e.key, mainStream+" ") && (n == nil || e.sent > n.sent) {
			v.newest[e.device] = e.letter
		}
	}
}

// heal ends a fault. It waits until the publisher must know of it: every message
// sent so far has met it and every answer has arrived, and no message that met it
// silently is younger than the acknowledgement timeout.
//
// Nor does it wait for a publisher that has had no answer yet: a bridge starts while its
// streams are being created.
//
// early: a new leader answers for what it has from its predecessor while it takes
// no messages of its own yet. What a publisher then sends is swallowed until, in
// the midst of it, the leader does: order is promised all the same.
func (w *world) heal(early bool) {
	v := &w.server
	for v.faulty && w.violation == nil {
		if w.sabotage.impatient || w.setup.Strict || w.unheard() {
			v.faulty = false
			w.commit(1 << 20) // a new leader answers nothing before it has applied its log
			return
		}
		for again := true; again; {
			again = w.drain()
		}
		if quiet := min(time.Since(v.lastBad), time.Since(w.learned)); quiet < 3700*time.Millisecond {
			w.sleep(max(3700*time.Millisecond-quiet, 50*time.Millisecond))
			continue
		}
		if early && w.setup.Replicated && v.refuses == "-" {
			w.inherit()
		}
		v.faulty = false
		w.commit(1 << 20)
		w.logf("the streams take messages again")
	}
}

// unheard reports whether the fault has been met by nobody but a publisher that has had no positive
// answer yet.
func (w *world) unheard() bool {
	p := w.process
	if p == nil || p.heard {
		return false
	}
	for by := range w.server.met {
		if by.bridge != p {
			return false
		}
	}
	for _, s := range w.sockets {
		if len(s.msgs) > 0 && s.link.p != p {
			return false
		}
	}
	return true
}

// inherit answers for everything that is not safe yet, lets the bridge act on it
// and swallows the first half of what it sends.
func (w *world) inherit() {
	v := &w.server
	v.faulty = false
	w.commit(1 << 20)
	v.faulty = true
	w.logf("the new leader answers for what it has, and takes nothing yet")
	w.answer(len(w.answers), 0)
	w.sleep(100 * time.Millisecond)
	for _, s := range w.sockets {
		half := (len(s.msgs) + 1) / 2
		for _, m := range s.msgs[:half] {
			w.take(m, s)
		}
		s.msgs = s.msgs[half:]
	}
	w.sweep()
}

// drain has the server take all that is on the wire, and the bridge its answers.
func (w *world) drain() (any bool) {
	for _, s := range w.sockets {
		for len(s.msgs) > 0 {
			m := s.msgs[0]
			s.msgs = s.msgs[1:]
			w.take(m, s)
			any = true
		}
	}
	w.sweep()
	any = any || len(w.answers) > 0
	w.answer(len(w.answers), 0)
	w.settleDown()
	return any
}
