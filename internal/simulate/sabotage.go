package simulate

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/simulate/streams"
	natspublish "mqtt-nats-bridge/jetstream/publish"
)

// sabotage breaks the bridge at its ports. Nil: nothing is broken there.
type sabotage struct {
	publisher func(*process, bridge.Publisher) bridge.Publisher
	settler   func(*process, bridge.Settler) bridge.Settler
	link      func(*streams.Link) natspublish.Link
	answer    func(*streams.Link, *nats.Msg) (taken bool)
	// deliver runs before a delivery, and what it returns after it.
	deliver    func(*process, packet) (after func())
	trusting   bool // a stale journal is taken for the latest
	noFence    bool // the broker is never asked what it has handled
	hastyFence bool // its answer comes before it has handled anything
	restless   bool // a stop of the process is not noticed
	// lookup changes what the bridge asks the streams by; nil: it does not ask.
	lookup   func(*process, *natspublish.LookupOptions) *natspublish.LookupOptions
	follower bool // a replica that lags is asked instead of the leader
	// impatient breaks the world instead: a fault may end before the publisher
	// can have learned of it.
	impatient bool
}

// withoutStoredBit is a lane that does not learn from its journal that a message
// is stored: each entry is put back as it was before Settle.
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

// ackOnPublish is a publisher that takes a message for stored as soon as it has
// it.
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

// resendSingly is a publisher that sends a refused message once more by itself,
// while the others go on.
func resendSingly() sabotage {
	return sabotage{answer: func(l *streams.Link, m *nats.Msg) bool {
		return len(m.Data) == 0 && l.Resend(m.Subject, 50*time.Millisecond)
	}}
}

// fenceOnReconnect is a publisher that learns of a new connection by the client's
// handler alone.
func fenceOnReconnect() sabotage {
	return sabotage{link: func(l *streams.Link) natspublish.Link { return unnumbered{l} }}
}

type unnumbered struct{ *streams.Link }

func (u unnumbered) Generation() uint64 { return min(u.Link.Generation(), 1) }

// contentAsID is a lane whose message ids are made of the content alone.
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

// headerWord is a lane whose journal always has the same in a word of its header.
func headerWord(at int64, value uint64) sabotage {
	return sabotage{deliver: func(p *process, _ packet) func() {
		p.word(at, func(uint64) uint64 { return value })
		return func() {}
	}}
}

// neverAsks is a bridge without look-ups.
func neverAsks() sabotage {
	return sabotage{lookup: func(*process, *natspublish.LookupOptions) *natspublish.LookupOptions { return nil }}
}

// window is a bridge that takes the duplicate window for another one.
func window(length func(*process) time.Duration) sabotage {
	return sabotage{lookup: func(p *process, o *natspublish.LookupOptions) *natspublish.LookupOptions {
		o.Window = func() time.Duration { return length(p) }
		return o
	}}
}

// latestAttempt is a bridge that counts from when it sent something last, and not from a
// message's first attempt.
func latestAttempt() sabotage {
	s := window(func(p *process) time.Duration {
		if p.Link == nil || time.Since(p.Link.Wrote) < streams.DuplicateWindow {
			return time.Hour
		}
		return streams.DuplicateWindow
	})
	return s
}

// attempted is a lane that reports another time of the first attempt.
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

// misread changes the answers to questions; empty: it is as it was.
func misread(change func(body string) string) sabotage {
	return sabotage{answer: func(_ *streams.Link, m *nats.Msg) bool {
		if strings.HasPrefix(m.Subject, streams.Inbox+"-") {
			if body := change(string(m.Data)); body != "" {
				m.Data, m.Header = []byte(body), nil
			}
		}
		return false
	}}
}

// fromLater is a publisher whose questions begin so much later.
func fromLater(d time.Duration) sabotage {
	return sabotage{link: func(l *streams.Link) natspublish.Link { return late{l, d} }}
}

type late struct {
	*streams.Link
	by time.Duration
}

func (l late) PublishMsg(m *nats.Msg) error {
	var q map[string]any
	if strings.HasPrefix(m.Subject, streams.API) && json.Unmarshal(m.Data, &q) == nil && q["start_time"] != nil {
		from, err := time.Parse(time.RFC3339Nano, q["start_time"].(string))
		if err != nil {
			panic(err)
		}
		q["start_time"] = from.Add(l.by)
		m.Data, _ = json.Marshal(q)
	}
	return l.Link.PublishMsg(m)
}
