package simulate

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/simulate/jetstream"
	natspublish "mqtt-nats-bridge/jetstream/publish"
)

// sabotage breaks the bridge at its ports. A nil field breaks nothing.
type sabotage struct {
	publisher func(*process, bridge.Publisher) bridge.Publisher
	settler   func(*process, bridge.Settler) bridge.Settler
	link      func(*jetstream.Link) natspublish.Link
	answer    func(*jetstream.Link, *nats.Msg) (taken bool)
	// deliver is called before a delivery. The function that it returns is called after the
	// delivery.
	deliver            func(*process, packet) (after func())
	trustsStaleJournal bool // a stale journal is used as if it were current
	sameEpoch          bool // all journals have one epoch
	noFence            bool // the bridge never sends a ping as a fence
	hastyFence         bool // the fence is answered before the broker has processed anything
	missesSuspension   bool // a suspension of the process is not detected
	// lookup changes the look-up options; a nil result turns look-ups off.
	lookup   func(*process, *natspublish.LookupOptions) *natspublish.LookupOptions
	follower bool // look-ups go to a lagging replica instead of the leader
	// earlyHeal breaks an assumption instead of the bridge: a fault may end before the publisher
	// can have noticed it.
	earlyHeal bool
}

// withoutStoredBit breaks the lane: its journal does not record that a message is stored, because
// each entry is restored after Settle.
func withoutStoredBit() sabotage {
	return sabotage{settler: func(p *process, next bridge.Settler) bridge.Settler {
		return forgetful{Settler: next, p: p}
	}}
}

type forgetful struct {
	bridge.Settler
	p *process
}

func (f forgetful) Settle(r *bridge.Result) {
	f.Settler.Settle(r)
	if !f.p.w.setup.Memory {
		f.p.forgetStored()
	}
}

// ackOnPublish breaks the publisher: it reports a message as stored as soon as it receives it.
func ackOnPublish() sabotage {
	return sabotage{publisher: func(p *process, next bridge.Publisher) bridge.Publisher {
		return hasty{p, next}
	}}
}

type hasty struct {
	p    *process
	next bridge.Publisher
}

func (h hasty) Publish(m *bridge.Message) {
	h.next.Publish(m)
	if !h.p.settling {
		h.p.lane.Settle(&bridge.Result{Token: m.Token})
	}
}

// resendSingly breaks the publisher: it resends a refused message on its own, while later messages
// continue.
func resendSingly() sabotage {
	return sabotage{answer: func(l *jetstream.Link, m *nats.Msg) bool {
		return len(m.Data) == 0 && l.Resend(m.Subject, 50*time.Millisecond)
	}}
}

// fenceOnReconnect breaks the publisher: it detects a new connection only by the client's handler.
func fenceOnReconnect() sabotage {
	return sabotage{link: func(l *jetstream.Link) natspublish.Link { return unnumbered{l} }}
}

type unnumbered struct{ *jetstream.Link }

func (u unnumbered) Generation() uint64 { return min(u.Link.Generation(), 1) }

// contentAsID breaks the lane: message ids are derived from the content alone.
func contentAsID() sabotage {
	return sabotage{publisher: func(_ *process, next bridge.Publisher) bridge.Publisher {
		return hashing{next}
	}}
}

type hashing struct{ next bridge.Publisher }

func (h hashing) Publish(m *bridge.Message) {
	c := *m
	c.ID = append(append([]byte("hash of "), m.Subject...), m.Payload...)
	h.next.Publish(&c)
}

// headerWord breaks the lane: a word in the journal's header has a constant value.
func headerWord(at int64, value uint64) sabotage {
	return sabotage{deliver: func(p *process, _ packet) func() {
		p.word(at, func(uint64) uint64 { return value })
		return func() {}
	}}
}

// neverAsks turns look-ups off.
func neverAsks() sabotage {
	return sabotage{lookup: func(*process, *natspublish.LookupOptions) *natspublish.LookupOptions { return nil }}
}

// window breaks the bridge: it assumes another duplicate window.
func window(length func(*process) time.Duration) sabotage {
	return sabotage{lookup: func(p *process, o *natspublish.LookupOptions) *natspublish.LookupOptions {
		o.Window = func() time.Duration { return length(p) }
		return o
	}}
}

// latestAttempt breaks the bridge: it counts from its latest send, not from the first attempt of a
// message.
func latestAttempt() sabotage {
	s := window(func(p *process) time.Duration {
		if p.Link == nil || time.Since(p.Link.Wrote) < jetstream.DuplicateWindow {
			return time.Hour
		}
		return jetstream.DuplicateWindow
	})
	return s
}

// attempted breaks the lane: it reports another time of the first attempt.
func attempted(when func(int64) int64) sabotage {
	return sabotage{publisher: func(_ *process, next bridge.Publisher) bridge.Publisher {
		return dated{next, when}
	}}
}

type dated struct {
	next bridge.Publisher
	when func(int64) int64
}

func (d dated) Publish(m *bridge.Message) {
	c := *m
	if c.FirstAttempt != 0 {
		c.FirstAttempt = d.when(c.FirstAttempt)
	}
	d.next.Publish(&c)
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
	return sabotage{link: func(l *jetstream.Link) natspublish.Link { return late{l, d} }}
}

type late struct {
	*jetstream.Link
	by time.Duration
}

func (l late) PublishMsg(m *nats.Msg) error {
	var q map[string]any
	if strings.HasPrefix(m.Subject, jetstream.API) && json.Unmarshal(m.Data, &q) == nil && q["start_time"] != nil {
		from, err := time.Parse(time.RFC3339Nano, q["start_time"].(string))
		if err != nil {
			panic(err)
		}
		q["start_time"] = from.Add(l.by)
		m.Data, _ = json.Marshal(q)
	}
	return l.Link.PublishMsg(m)
}
