package simulate

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/simulate/jetstream"
)

// sabotage breaks the bridge at its ports. The zero value breaks nothing.
type sabotage struct {
	// publish receives the lane's messages instead of the publisher, and may change them.
	publish func(*process, *bridge.Message)
	deliver func(*process)                                // is called before a delivery
	sending func(*nats.Msg)                               // changes what the publisher sends
	answer  func(*jetstream.Link, *nats.Msg) (taken bool) // changes or takes an answer
	window  func(*process) time.Duration                  // the duplicate window that the bridge assumes

	forgetsStored      bool // the journal does not record that a message is stored
	trustsStaleJournal bool // a stale journal is used as if it were current
	sameEpoch          bool // all journals have one epoch
	noFence            bool // the bridge never sends a ping as a fence
	hastyFence         bool // the fence is answered before the broker has processed anything
	missesSuspension   bool // a suspension of the process is not detected
	unnumbered         bool // the publisher detects a new connection only by the client's handler
	neverAsks          bool // look-ups are off
	follower           bool // look-ups go to a lagging replica instead of the leader
	// earlyHeal breaks an assumption instead of the bridge: a fault may end before the publisher
	// can have noticed it.
	earlyHeal bool
}

// ackOnPublish breaks the publisher: it reports a message as stored as soon as it receives it.
func ackOnPublish() sabotage {
	return sabotage{publish: func(p *process, m *bridge.Message) {
		p.publisher.Publish(m)
		if !p.settling {
			p.lane.Settle(&bridge.Result{Token: m.Token})
		}
	}}
}

// resendSingly breaks the publisher: it resends a refused message on its own, while later messages
// continue.
func resendSingly() sabotage {
	return sabotage{answer: func(l *jetstream.Link, m *nats.Msg) bool {
		return len(m.Data) == 0 && l.Resend(m.Subject, 50*time.Millisecond)
	}}
}

// contentAsID breaks the lane: message ids are derived from the content alone.
func contentAsID() sabotage {
	return sabotage{publish: func(p *process, m *bridge.Message) {
		m.ID = append(append([]byte("hash of "), m.Subject...), m.Payload...)
		p.publisher.Publish(m)
	}}
}

// headerWord breaks the lane: a word in the journal's header has a constant value.
func headerWord(at int64, value uint64) sabotage {
	return sabotage{deliver: func(p *process) { p.word(at, func(uint64) uint64 { return value }) }}
}

// latestAttempt breaks the bridge: it counts from its latest send, not from the first attempt of a
// message.
func latestAttempt() sabotage {
	return sabotage{window: func(p *process) time.Duration {
		if p.Link == nil || time.Since(p.Link.Wrote) < jetstream.DuplicateWindow {
			return time.Hour
		}
		return jetstream.DuplicateWindow
	}}
}

// attempted breaks the lane: it reports another time of the first attempt.
func attempted(when func(int64) int64) sabotage {
	return sabotage{publish: func(p *process, m *bridge.Message) {
		if m.FirstAttempt != 0 {
			m.FirstAttempt = when(m.FirstAttempt)
		}
		p.publisher.Publish(m)
	}}
}

// misread changes the answers to look-ups. If change returns "", the answer stays unchanged.
func misread(change func(body string) string) sabotage {
	return sabotage{answer: func(_ *jetstream.Link, m *nats.Msg) bool {
		if strings.HasPrefix(m.Subject, jetstream.Inbox+"-") {
			if body := change(string(m.Data)); body != "" {
				m.Data, m.Header = []byte(body), nil
			}
		}
		return false
	}}
}

// fromLater breaks the publisher: its look-ups start later by d.
func fromLater(d time.Duration) sabotage {
	return sabotage{sending: func(m *nats.Msg) {
		var q map[string]any
		if strings.HasPrefix(m.Subject, jetstream.API) && json.Unmarshal(m.Data, &q) == nil && q["start_time"] != nil {
			from, err := time.Parse(time.RFC3339Nano, q["start_time"].(string))
			if err != nil {
				panic(err)
			}
			q["start_time"] = from.Add(d)
			m.Data, _ = json.Marshal(q)
		}
	}}
}
