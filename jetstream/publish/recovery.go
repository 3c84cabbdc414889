package publish

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/jetstream/conn"
)

// recovery implements go-back-N. The publisher stops sending when the connection was replaced, or
// when the oldest message is not answered in time or is refused temporarily. It probes with the
// oldest message under its old id until a probe has its final answer. Then it resends all the
// others in order, and only then continues with new ones.
//
// Only the answer to the latest probe counts. An answer to an earlier send does not prove that
// messages arrive. The new leader of a replicated stream answers for messages of its predecessor
// before it accepts any itself, and drops messages sent at that moment, up to some message in the
// middle of a pipeline.
//
// This keeps the order, because the stream always contains a prefix of what was sent. At the start
// the streams may not exist yet, so a single message is sent until the streams have stored one. A
// full stream with discard new and max_bytes is the exception: it refuses a large message and
// stores smaller ones behind it. Measured on three replicas with five leaders killed at 5,000
// messages per second: 0 lost, 0 duplicates, 0 inversions. Retrying single messages instead gave
// 9,462 inversions.
type recovery struct {
	active bool
	// attempt numbers the sends, so that a refusal of an older send can be distinguished from one
	// of the latest. It increases with every probe and resume.
	attempt       uint32
	probed        uint32 // attempt of the first probe; 0: none yet
	late          int    // answers to probes other than the latest
	pausedAttempt uint32 // up to this attempt an answer may be late because the process was suspended
	probeDue      bool   // the next probe is already scheduled
	problem       error  // the latest reason
	since         time.Time
	pause         time.Duration // before the next probe
	logged        bool          // a lasting failure was logged
}

const (
	// immediately is not 0, so that the timer fires after the current call, also under virtual
	// time.
	immediately = time.Microsecond
	minPause    = 50 * time.Millisecond
	maxPause    = 2 * time.Second
	// logAfter is how long a failure lasts before it is logged as an error. Every leader election
	// causes shorter ones.
	logAfter = 10 * time.Second
	// noStreamAfter is how long "no responders" lasts before NoStreamForSubject is called.
	noStreamAfter = time.Second
)

// jitter randomizes d by up to half in either direction, because the lanes of a bridge and the
// bridges of a fleet meet the same failure at the same instant.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// recover starts a recovery.
func (p *Publisher) recover(problem error) {
	r := &p.recovery
	p.endLookups()
	if !r.active {
		*r = recovery{active: true, attempt: r.attempt, since: time.Now(), pause: minPause}
		p.stats.Recoveries++
		p.opts.Log.Debug().AnErr("problem", problem).Int("unsettled", p.win.len()).Msg("going back to the oldest unsettled message")
	}
	r.problem = problem
	p.schedule(p.opts.Jitter(r.pause))
}

// retryRefused handles a refusal that is temporary or lasts until the configuration is changed. The
// message is kept in both cases.
func (p *Publisher) retryRefused(seq uint64, err error) {
	if !p.recovery.active {
		p.recover(err)
		return
	}
	if seq == p.win.head {
		p.recovery.problem = err
		p.recovery.pause = min(2*p.recovery.pause, maxPause)
		p.schedule(p.opts.Jitter(p.recovery.pause))
	}
}

// probe resends the oldest unsettled message.
func (p *Publisher) probe() {
	r := &p.recovery
	r.probeDue = false
	p.logLasting()
	if p.win.len() == 0 {
		p.resume()
		return
	}
	if p.fenced() {
		p.schedule(minPause)
		return
	}
	if !p.link.IsConnected() {
		r.problem = conn.ErrDisconnected
		r.pause = min(2*r.pause, maxPause)
		p.schedule(p.opts.Jitter(r.pause))
		return
	}
	p.generation = p.link.Generation()
	if p.lookupsPending() || p.mayBeForgotten(p.win.at(p.win.head), time.Now()) && p.lookUp(p.win.head) {
		return
	}
	r.attempt++
	if r.probed == 0 {
		r.probed = r.attempt
	}
	if p.win.head == p.win.sent { // the oldest was never sent
		_, e := p.win.advance()
		p.inFlightKeys.begin(e)
	}
	if e := p.win.at(p.win.head); e.firstAttempt.IsZero() {
		e.firstAttempt = time.Now() // progress may be long ago
	}
	if err := p.send(p.win.head, p.win.at(p.win.head)); err != nil {
		if Classify(err) == Reject && !p.win.at(p.win.head).lastResort {
			p.sendFailed(p.win.head, err)
			return
		}
		r.problem = err
		r.pause = min(2*r.pause, maxPause)
		p.schedule(p.opts.Jitter(r.pause))
		return
	}
	// A server that cannot write does not answer, so the next probe follows the timeout of this
	// one.
	p.schedule(p.opts.AckTimeout)
}

// headSettled continues with the next message. If messages are proven to arrive, it resumes with
// all messages, otherwise with another probe.
func (p *Publisher) headSettled(attempt uint32) {
	r := &p.recovery
	if !r.active {
		return
	}
	p.detectPause()
	probe := r.probed != 0 && attempt >= r.probed
	if probe && attempt != r.attempt && attempt > r.pausedAttempt {
		r.late++
	}
	switch {
	// Two late answers, to two messages, are not from a former leader: the server takes longer than
	// the acknowledgement timeout.
	case probe && (attempt == r.attempt || r.late > 1), p.win.len() == 0:
		p.resume()
	case !r.probeDue:
		r.probeDue, r.pause = true, minPause
		p.schedule(p.opts.Jitter(r.pause))
	}
}

// detectPause detects that the process was suspended while an answer was due. A late answer then
// proves nothing about the server.
func (p *Publisher) detectPause() {
	if p.armed && time.Since(p.due) > p.opts.AckTimeout {
		p.recovery.pausedAttempt = p.recovery.attempt
	}
}

// resume ends a recovery: everything unsettled is resent in order.
func (p *Publisher) resume() {
	r := &p.recovery
	if r.logged {
		p.opts.Log.Info().Dur("after_ms", time.Since(r.since)).Msg("JetStream stores messages again")
	} else {
		p.opts.Log.Debug().Dur("after_ms", time.Since(r.since)).Int("unsettled", p.win.len()).Msg("resending unsettled messages in order")
	}
	*r = recovery{attempt: r.attempt + 1}
	p.denied = nil
	p.progress = time.Now()
	p.inFlightKeys.reset(&p.win)
	p.win.rewind()
	p.pump()
	p.arm(p.opts.AckTimeout)
}

// silenceProblem returns why there is no answer, as far as the server has reported it.
func (p *Publisher) silenceProblem() error {
	if p.denied != nil {
		return p.denied
	}
	return ErrAckTimeout
}

// logLasting logs a lasting failure once.
func (p *Publisher) logLasting() {
	r := &p.recovery
	if r.logged || time.Since(r.since) < logAfter {
		return
	}
	r.logged = true
	p.withAdvice(p.opts.Log.Error().Str("component", "jetstream"), r.problem).
		Int("waiting", p.win.len()).Msg("JetStream does not store messages, keeping them and retrying")
}

// withAdvice adds the problem to a log line, and the advice if there is any.
func (p *Publisher) withAdvice(line *zerolog.Event, problem error) *zerolog.Event {
	line.AnErr("problem", problem)
	if p.opts.Advice != nil {
		if text := p.opts.Advice(problem); text != "" {
			line.Str("advice", text)
		}
	}
	return line
}

// reconnected starts a recovery, unless a send has already noticed the new connection and started
// it.
func (p *Publisher) reconnected() {
	p.mu.Lock()
	if p.link == nil { // called before openLink returned: nothing was sent on it
		p.mu.Unlock()
		return
	}
	g := p.link.Generation()
	// A connection within the process is not dialled, so its generation stays 0.
	if !p.closed && !p.recovery.active && (p.win.sent > p.win.head || p.lookups.active) && (g != p.generation || g == 0) {
		p.recover(conn.ErrDisconnected)
	}
	p.mu.Unlock()
	p.probeNow()
}

// probeNow probes immediately, because the connection is up.
func (p *Publisher) probeNow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed && p.recovery.active {
		p.recovery.pause = minPause
		p.schedule(immediately)
	}
}

// schedule sets the timer. arm sets it only if it is not set.
func (p *Publisher) schedule(d time.Duration) {
	p.detectPause()
	p.armed = true
	p.due = time.Now().Add(d)
	p.timer.Reset(d)
}

func (p *Publisher) arm(d time.Duration) {
	if !p.armed && p.win.len() > 0 && !p.closed {
		p.schedule(d)
	}
}

// refuseWithoutStream refuses the oldest message if no stream has its subject and none will. A
// device that invents the last level of its topic must not block the others. Messages of a missing
// stream wait for it.
func (p *Publisher) refuseWithoutStream() {
	p.mu.Lock()
	seq := p.win.head
	e := p.win.unanswered(seq)
	if p.closed || p.opts.NoStreamForSubject == nil || e == nil || !p.recovery.active ||
		!errors.Is(p.recovery.problem, ErrNoResponders) || time.Since(p.recovery.since) < noStreamAfter {
		p.mu.Unlock()
		return
	}
	subject := string(e.buf[:e.subject])
	p.mu.Unlock()
	if !p.opts.NoStreamForSubject(subject) {
		return
	}
	p.mu.Lock()
	if p.win.head == seq && p.win.unanswered(seq) != nil {
		p.refused = append(p.refused, refusal{seq, ErrNoStreamForSubject})
	}
	p.mu.Unlock()
}

// tick runs when the timer fires. It reports refusals, probes, and detects missing answers.
func (p *Publisher) tick() {
	p.calls.RLock()
	p.refuseWithoutStream()
	p.reportRefused()
	p.calls.RUnlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.detectPause()
	p.armed = false
	switch {
	case p.closed || p.win.len() == 0:
	case p.recovery.active:
		p.probe()
	case time.Since(p.due) > lateTimer:
		// The process was suspended. Answers may be waiting in the socket and must be handled
		// first.
		p.progress, p.lookups.progress = time.Now(), time.Now()
		p.arm(p.opts.AckTimeout)
	case p.lookupsPending():
	default:
		silence := time.Since(p.progress)
		if p.win.next > p.win.head && silence >= p.opts.AckTimeout {
			p.recover(p.silenceProblem())
			p.schedule(immediately)
			return
		}
		p.arm(max(p.opts.AckTimeout-silence, minPause))
	}
}
