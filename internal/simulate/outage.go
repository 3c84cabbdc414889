package simulate

import (
	"slices"
	"time"

	natspublish "mqtt-nats-bridge/jetstream/publish"

	"mqtt-nats-bridge/internal/simulate/streams"
)

// lookup is what the bridge asks the streams by.
func (w *world) lookup(p *process) *natspublish.LookupOptions {
	o := &natspublish.LookupOptions{API: streams.API, StreamOf: streams.Of, Window: func() time.Duration { return streams.DuplicateWindow }}
	if f := w.sabotage.lookup; f != nil {
		return f(p, o)
	}
	return o
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
	const timeout = 3700 * time.Millisecond // longer than the acknowledgement timeout
	s := w.server
	for s.Faulty() && w.violation == nil {
		if w.sabotage.impatient || w.setup.Strict || s.Unheard() {
			s.Recover()
			return
		}
		for w.drain() {
		}
		if quiet := s.Quiet(); quiet < timeout {
			w.sleep(max(timeout-quiet, 50*time.Millisecond))
			continue
		}
		if early && w.setup.Replicated && s.Silent() {
			s.Inherit()
			w.sleep(100 * time.Millisecond)
			s.TakeHalf()
		}
		s.Recover()
		w.logf("the streams take messages again")
	}
}

// drain has the server take all that is on the wire, and the bridge its answers.
func (w *world) drain() (some bool) {
	some = w.server.Drain()
	w.settleDown()
	return some
}

// settleAll has the server take and store, and the bridge know, all that there is.
func (w *world) settleAll() {
	w.drain()
	w.server.CommitAll()
	w.server.AnswerAll()
}

// ripeness is how far from the end of the duplicate window ripen's a stops.
var ripeness = []time.Duration{
	time.Second, 20 * time.Second, time.Minute, 3 * time.Minute, -50 * time.Millisecond, -3 * time.Second, -9 * time.Second, -14 * time.Second,
}

// ripen waits until the oldest message that is stored, and that the bridge or the broker
// does not know to be, is about to be forgotten.
func (w *world) ripen(a int) {
	var oldest time.Time
	for _, l := range w.letters {
		waits := l.settled.IsZero() || slices.ContainsFunc(w.broker.inFlight, func(p packet) bool { return p.letter == l })
		if copies := w.copies(l); waits && len(copies) > 0 && (oldest.IsZero() || copies[0].At.Before(oldest)) {
			oldest = copies[0].At
		}
	}
	rest := time.Until(oldest) + streams.DuplicateWindow + ripeness[a%len(ripeness)]
	if oldest.IsZero() || rest <= 0 {
		return
	}
	w.logf("the streams forget in %v", time.Until(oldest)+streams.DuplicateWindow)
	w.sleep(rest)
}

// stops are how long freeze's a is.
var stops = []time.Duration{time.Minute, 110 * time.Second, 3 * time.Minute, 10 * time.Minute}

// freeze has the process stand still. The broker gives its connection up, the NATS server
// later; what they wrote before lies in its sockets.
func (w *world) freeze(a int, answersFirst bool) {
	p, b := w.process, &w.broker
	if p == nil {
		return
	}
	d := stops[a%len(stops)]
	w.logf("the process stands still for %v", d)
	if w.server.Faulty() && !w.setup.Strict {
		// Where answers are lost nobody notices before the server takes messages again: this
		// is what strict order is for.
		w.disordered = true
	}
	w.still = true
	w.others.Lock()
	thawed := make(chan struct{})
	p.thawed = thawed
	w.others.Unlock()
	b.cut(len(b.pipe), packetIDs)
	b.stopped = true
	w.sleep(d)
	if d > 2*time.Minute {
		p.Link.Cut(1<<20, 1<<20)
	}
	w.logf("the process runs again")
	w.still = false
	if answersFirst {
		w.server.AnswerAll()
	}
	w.others.Lock()
	p.thawed = nil
	w.others.Unlock()
	close(thawed)
	w.settleDown() // timers run before anything is read
}

// afterFunc makes a timer that does not run while the process is frozen.
func (p *process) afterFunc(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() {
		p.w.others.Lock()
		thawed := p.thawed
		p.w.others.Unlock()
		if thawed != nil {
			<-thawed
		}
		f()
	})
}
