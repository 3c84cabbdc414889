package simulate

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mqtt-nats-bridge/internal/simulate/jetstream"
)

// world is one run: the bridge, its peers and the observed state.
type world struct {
	setup    setup
	sabotage sabotage
	home     string // of the journals

	letters        []*letter
	broker         broker
	process        *process // nil: no bridge is running
	endedProcesses []*process
	lives          int    // bridges started so far
	dir            string // journal directory of the next process
	journals       int
	floods         int
	image          []byte    // a copy of the journal
	changed        time.Time // when the journal was changed from outside; zero: never
	boots          int       // of the machine
	sinceTick      time.Duration
	skipped        uint64 // messages that earlier bridges counted instead of storing
	counted        uint64 // those of them that the simulation has identified
	still          bool   // the process is suspended
	pauses         int    // delays of the publisher so far

	others jetstream.Gate
	server *jetstream.Server
	newest map[int]*letter // by device, in the main stream

	pending    *event    // happens inside the next event
	inside     bool      // an event inside another one is in progress
	driving    bool      // the simulation's own goroutine is running
	acked      []*letter // in this step
	disordered bool      // order is not guaranteed: another process had the session, a rollback, or an unnoticed outage
	violation  *violation
	trace      func(string) // nil: none
}

// pauses contains the durations of wait, by its argument a.
var pauses = []time.Duration{
	time.Millisecond, 20 * time.Millisecond, 60 * time.Millisecond, 300 * time.Millisecond, time.Second,
	3100 * time.Millisecond, 6 * time.Second, 45 * time.Second, 3 * time.Minute,
}

// run runs a schedule and returns the violation, or nil. home is the directory for its files.
func run(t *testing.T, s schedule, broken sabotage, home string, trace func(string)) (found *violation) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		// The journal's numbers follow the clock and begin in 2020. The clock of a synctest bubble
		// begins in 2000.
		time.Sleep(time.Until(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
		w := &world{
			setup: s.setup, sabotage: broken, home: home, dir: filepath.Join(home, "0"), trace: trace,
			newest: map[int]*letter{},
		}
		w.server = jetstream.New(jetstream.Options{
			Replicated: s.setup.Replicated, Ragged: s.setup.Ragged, Skew: time.Duration(s.setup.ServerSkew) * time.Second,
			Follower: broken.follower, Others: &w.others, Logf: w.logf, Storing: w.judgeStored, Dropping: w.judgeDuplicate,
		})
		w.broker = broker{w: w, session: session{nextID: uint16(s.setup.FirstID)}, kept: true, seen: time.Now(), unproved: true}
		defer w.end()
		w.play(s.events)
		found = w.violation
	})
	return found
}

// play runs the events, then waits until all messages are settled.
func (w *world) play(events []event) {
	defer func() {
		if r := recover(); r != nil {
			w.fail(broken, "panic: %v\n%s", r, debug.Stack())
		}
	}()
	w.start(false)
	w.broker.connect()
	for i := range events {
		if w.violation != nil {
			return
		}
		if events[i].op == between {
			w.logf("--- inside the next step:")
			if i+1 < len(events) && w.pending == nil {
				w.pending = &event{op: between}
			}
			continue
		}
		if w.pending != nil && w.pending.op == between {
			w.pending = &events[i]
			continue
		}
		w.step(events[i])
		if w.pending != nil { // no event had a place for it
			e := *w.pending
			w.pending = nil
			w.step(e)
		}
	}
	w.pending = nil
	if w.violation == nil {
		w.rest()
	}
}

// step runs one event and checks the invariants afterwards.
func (w *world) step(e event) {
	if w.trace != nil {
		w.logf("--- %s", e)
	}
	w.driving = true
	w.happen(e)
	w.driving = false
	w.settleDown()
	w.closeEnded()
	w.sleep(100 * time.Microsecond)
	w.judgeAcks()
}

func (w *world) happen(e event) {
	b := &w.broker
	switch e.op {
	case publish:
		b.queue = append(b.queue, w.letter(e.a, e.b/2, e.b))
	case send:
		b.send(e.a + 1)
	case retry:
		b.retry(e.a, e.b%2 == 1)
	case takeAcks:
		b.takeAcks(e.a + 1)
	case cut:
		b.cut(e.a, e.b)
	case connect:
		b.connect()
	case lose:
		b.lose()
	case skip:
		b.skip(e.a)
	case save:
		b.save()
	case restore:
		b.restore(e.a%2 == 1)
	case elsewhere:
		b.elsewhere(e.a, e.b)
	case keep:
		w.keepCopy()
	case setback:
		w.setback(e.a%2 == 1)
	case flood:
		b.flood(e.a)
	case kill:
		w.kill(e.a, e.b, e.b%2 == 1)
	case stop:
		w.stop()
	case freeze:
		w.freeze(e.a, e.b%2 == 1)
	case start:
		w.start(e.a%2 == 1)
	case store:
		w.server.Store(e.a+1, e.b)
	case commit:
		w.server.Commit(e.a + 1)
	case answer:
		w.server.Answer(e.a+1, e.b)
	case dropAnswer:
		w.server.DropAnswer(e.a)
	case fault:
		w.server.Fault(e.a, e.b)
	case heal:
		w.heal(e.a%2 == 1)
	case leader:
		if w.server.Leader(e.a, e.b%2 == 1) {
			w.renew()
		}
	case purge:
		w.server.Purge()
	case wait:
		w.sleep(pauses[e.a%len(pauses)])
	case ripen:
		w.ripen(e.a)
	}
	if w.process != nil {
		w.happenToBridge(e)
	}
}

// happenToBridge runs the events that need a running process.
func (w *world) happenToBridge(e event) {
	b, p := &w.broker, w.process
	l := p.Link
	switch e.op {
	case read:
		w.read(e.a + 1)
	case flush:
		if b.conn != nil {
			b.conn.Flush()
		}
	case notice:
		if b.conn != nil && b.conn.cut {
			w.logf("the bridge notices that the broker's connection has ended")
			p.lane.Disconnected(b.conn)
			b.disconnected()
		}
	case tick:
		w.tick()
	case natsCut:
		l.Cut(e.a, e.b)
	case natsNotice:
		l.Notice()
	case natsDial:
		l.Dial()
	case natsCall:
		l.Call()
	case natsClose:
		if l.GiveUp() {
			w.settleDown()
		}
	case failWrite:
		l.FailWrite = 1 + e.a%2
	}
}

// read makes the bridge read up to n packets. PUBACKs are written when nothing is left to read.
func (w *world) read(n int) {
	b := &w.broker
	for range n {
		if w.process == nil || b.conn == nil || len(b.pipe) == 0 || w.process.lane.Ready() != nil {
			break
		}
		p := b.pipe[0]
		b.pipe = b.pipe[1:]
		w.logf("the bridge reads %v", p)
		if p.pong > 0 {
			b.conn.mark = 0
			w.process.lane.Confirmed(b.conn, p.pong)
			continue
		}
		w.deliver(p)
	}
	if b.conn != nil && len(b.pipe) == 0 {
		b.conn.Flush()
	}
}

// These are the events that other goroutines could cause inside another one: when the lane calls
// Publish, and when the publisher calls Settle. No lock is held at either place.
var (
	atPublish = []op{
		store, commit, answer, dropAnswer, fault, leader, kill, natsCut, natsNotice, natsDial, natsCall,
		natsClose, failWrite, send, takeAcks, flush, cut,
	}
	atSettle = []op{
		store, commit, dropAnswer, fault, leader, kill, natsCut, natsNotice, natsDial, natsCall,
		natsClose, failWrite, send, takeAcks, flush, cut, read, notice, connect, retry,
	}
)

// crossing runs a pending event if it is one of possible.
func (w *world) crossing(possible []op) {
	if e := w.pending; e != nil && w.driving && slices.Contains(possible, e.op) {
		w.pending, w.inside = nil, true
		w.logf("--- inside: %s", e)
		w.happen(*e)
		w.inside = false
	}
}

// settleDown waits until all goroutines are idle.
func (w *world) settleDown() {
	driving := w.driving
	w.driving = false
	w.others.Pass()
	synctest.Wait()
	w.driving = driving
}

// sleep lets time pass. Nothing stays on the wire for longer than 20 s.
func (w *world) sleep(d time.Duration) {
	const (
		slice = 5 * time.Second
		bound = 20*time.Second - slice // until the next check
	)
	driving := w.driving
	w.driving = false
	for ; d > 0; d -= slice {
		w.server.Overdue(bound, w.still)
		w.others.Pass()
		for rest := min(d, slice); rest > 0; {
			second := min(rest, time.Second-w.sinceTick)
			time.Sleep(second)
			rest -= second
			if w.sinceTick += second; w.sinceTick >= time.Second {
				w.sinceTick = 0
				synctest.Wait()
				w.tick()
			}
		}
		synctest.Wait()
	}
	w.driving = driving
}

// end releases the resources of the run.
func (w *world) end() {
	if w.process != nil {
		w.ended(w.process)
	}
	for _, p := range w.endedProcesses {
		p.Dead = true
	}
	w.closeEnded()
	os.RemoveAll(w.dir)
}

func (w *world) logf(format string, args ...any) {
	if w.trace != nil {
		w.trace(fmt.Sprintf(format, args...))
	}
}
