package simulate

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	natspublish "mqtt-nats-bridge/jetstream/publish"
)

// api begins the subjects of questions to the streams.
const api = "$JS.API"

// lookup is what the bridge asks the streams by.
func (w *world) lookup(p *process) *natspublish.LookupOptions {
	o := &natspublish.LookupOptions{API: api, StreamOf: streamOf, Window: func() time.Duration { return duplicateWindow }}
	if f := w.sabotage.lookup; f != nil {
		return f(p, o)
	}
	return o
}

// streamOf is the stream that stores a subject.
func streamOf(subject string) string {
	if strings.HasPrefix(subject, "quarantine.") {
		return quarantineStream
	}
	return mainStream
}

// now is the time on the leader's clock.
func (v *server) now() time.Time { return time.Now().Add(v.skew) }

// skew is how far a leader's clock is ahead of the bridge's: those of a cluster differ by
// up to 4 s.
func (w *world) skew(leader int) time.Duration {
	return time.Duration(w.setup.ServerSkew)*time.Second + time.Duration(leader%3-1)*2*time.Second
}

// unreadable says what a stream that does not take messages answers to a question; ok is
// false where it can be read all the same: it is full, or sealed.
func (v *server) unreadable() (answer string, ok bool) {
	if !v.faulty {
		return "", false
	}
	for _, code := range []string{"10077", "10023", "10028", "10047", "10002", "10060", "10109"} {
		if strings.Contains(v.refuses, code) {
			return "", false
		}
	}
	return v.refuses, true
}

// leaderless reports whether nothing becomes safe.
func (w *world) leaderless() bool {
	_, unreadable := w.server.unreadable()
	return unreadable && w.setup.Replicated
}

// lookUp is what a stream does with a question. Its leader answers by what is safe; a
// follower, which only a sabotage asks, by what it has.
func (w *world) lookUp(m sent, from *socket) {
	v := &w.server
	if answer, ok := v.unreadable(); ok {
		w.logf("the server does not answer a question: %q", answer)
		if answer != "-" {
			w.reply(from, m.reply, answer)
		}
		return
	}
	if strings.Contains(m.subject, ".STREAM.INFO.") {
		w.reply(from, m.reply, `{"ts":"`+v.now().UTC().Format(time.RFC3339Nano)+`"}`)
		return
	}
	var q struct {
		Subject string    `json:"next_by_subj"`
		Seq     int       `json:"seq"`
		Start   time.Time `json:"start_time"`
	}
	if err := json.Unmarshal([]byte(m.payload), &q); err != nil {
		panic(err)
	}
	log := v.log[:v.safe]
	if w.sabotage.follower {
		log = v.log[:min(v.stale, v.safe)]
	}
	for i, e := range log {
		if i+1 < q.Seq || e.stamp.Before(q.Start) {
			continue
		}
		q.Start = time.Time{} // it is where the search begins
		stream, id, _ := strings.Cut(e.key, " ")
		if e.subject != q.Subject || !strings.HasSuffix(m.subject, "."+stream) || w.copyOf(e.letter, e.key).purged {
			continue
		}
		w.logf("the server finds message %d", e.number)
		header := base64.StdEncoding.EncodeToString([]byte("NATS/1.0\r\nNats-Msg-Id: " + id + "\r\n\r\n"))
		w.reply(from, m.reply, fmt.Sprintf(`{"message":{"subject":%q,"seq":%d,"hdrs":%q}}`, e.subject, i+1, header))
		return
	}
	w.logf("the server finds nothing")
	w.reply(from, m.reply, noMessage)
}

const noMessage = `{"error":{"code":404,"err_code":10037,"description":"no message found"}}`

// purge deletes what the streams contain. They know the ids all the same.
func (w *world) purge() {
	v := &w.server
	for _, e := range v.log[:v.safe] {
		w.copyOf(e.letter, e.key).purged = true
	}
	w.logf("the streams are purged")
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
		if waits && len(l.copies) > 0 && (oldest.IsZero() || l.copies[0].at.Before(oldest)) {
			oldest = l.copies[0].at
		}
	}
	rest := time.Until(oldest) + duplicateWindow + ripeness[a%len(ripeness)]
	if oldest.IsZero() || rest <= 0 {
		return
	}
	w.logf("the streams forget in %v", time.Until(oldest)+duplicateWindow)
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
	if w.server.faulty && !w.setup.Strict {
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
		p.link.cut(1<<20, 1<<20)
	}
	w.logf("the process runs again")
	w.still = false
	if answersFirst {
		w.answer(len(w.answers), 0)
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
