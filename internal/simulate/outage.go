package simulate

import (
	"slices"
	"time"

	"mqtt-nats-bridge/internal/simulate/jetstream"
	natspublish "mqtt-nats-bridge/jetstream/publish"
)

// lookup returns the bridge's options for look-ups in the streams.
func (w *world) lookup(p *process) *natspublish.LookupOptions {
	if w.sabotage.neverAsks {
		return nil
	}
	window := func() time.Duration { return jetstream.DuplicateWindow }
	if f := w.sabotage.window; f != nil {
		window = func() time.Duration { return f(p) }
	}
	return &natspublish.LookupOptions{API: jetstream.API, StreamOf: jetstream.StreamOf, Window: window}
}

// heal ends a fault. Before that it waits until the publisher must have noticed the fault: the
// server has refused every message sent so far, all answers have arrived, and no message that was
// refused silently is younger than the acknowledgement timeout.
//
// It does not wait for a publisher that has had no answer yet: a bridge starts while its streams
// are being created.
//
// If early is true, a new leader answers for messages from its predecessor before it accepts new
// ones. The publisher's messages are discarded until the leader accepts them, in the middle of a
// batch. The order is guaranteed nevertheless.
func (w *world) heal(early bool) {
	const timeout = 3700 * time.Millisecond // longer than the acknowledgement timeout
	s := w.server
	for s.Faulty() && w.violation == nil {
		if w.sabotage.earlyHeal || w.setup.Strict || s.Unheard() {
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
		w.logf("the streams accept messages again")
	}
}

// drain makes the server process everything on the wire, and the bridge the answers.
func (w *world) drain() (some bool) {
	some = w.server.Drain()
	w.settleDown()
	return some
}

// settleAll makes the server store all messages, and the bridge process all answers.
func (w *world) settleAll() {
	w.drain()
	w.server.CommitAll()
	w.server.AnswerAll()
}

// ripeness contains the distances from the end of the duplicate window at which ripen stops, by its
// argument a.
var ripeness = []time.Duration{
	time.Second, 20 * time.Second, time.Minute, 3 * time.Minute, -50 * time.Millisecond, -3 * time.Second, -9 * time.Second, -14 * time.Second,
}

// ripen waits until the streams are about to forget the oldest stored message that the bridge or
// the broker does not know to be stored.
func (w *world) ripen(a int) {
	var oldest time.Time
	for _, l := range w.letters {
		waits := l.settled.IsZero() || slices.ContainsFunc(w.broker.inFlight, func(p packet) bool { return p.letter == l })
		if copies := w.copies(l); waits && len(copies) > 0 && (oldest.IsZero() || copies[0].At.Before(oldest)) {
			oldest = copies[0].At
		}
	}
	rest := time.Until(oldest) + jetstream.DuplicateWindow + ripeness[a%len(ripeness)]
	if oldest.IsZero() || rest <= 0 {
		return
	}
	w.logf("the streams forget in %v", time.Until(oldest)+jetstream.DuplicateWindow)
	w.sleep(rest)
}

// stops contains the durations of freeze, by its argument a.
var stops = []time.Duration{time.Minute, 110 * time.Second, 3 * time.Minute, 10 * time.Minute}

// freeze suspends the process. The broker closes its connection, the NATS server does so later.
// Data that they wrote before remains in its sockets.
func (w *world) freeze(a int, answersFirst bool) {
	p, b := w.process, &w.broker
	if p == nil {
		return
	}
	d := stops[a%len(stops)]
	w.logf("the process is suspended for %v", d)
	if w.server.Faulty() && !w.setup.Strict {
		// If answers are lost, the publisher does not notice before the server accepts messages
		// again. Strict order exists for this case.
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
	w.logf("the process resumes")
	w.still = false
	if answersFirst {
		w.server.AnswerAll()
	}
	w.others.Lock()
	p.thawed = nil
	w.others.Unlock()
	close(thawed)
	w.settleDown() // timers fire before anything is read
}

// afterFunc returns a timer that does not fire while the process is suspended.
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
