package simulate

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/journal"
	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/internal/simulate/streams"
	natspublish "mqtt-nats-bridge/jetstream/publish"
	"mqtt-nats-bridge/subjects"
)

// process is one bridge from its start to its end. It is between lane and
// publisher, as the one's [bridge.Publisher] and the other's [bridge.Settler], to
// see what they tell each other, and to interrupt them.
type process struct {
	*streams.Client
	w         *world
	dir       string
	lane      *bridge.Lane
	publisher *natspublish.Publisher
	journal   *journal.Journal

	thawed chan struct{} // it is frozen until this is closed; nil: it is not

	reading   *letter            // what Deliver is at
	tokens    map[uint64]*letter // what has been published
	given     map[*letter]bool
	lastToken uint64
	lastSent  int    // of what was published for the first time
	skipped   uint64 // counted instead of stored
	end       uint64 // of its journal, before Deliver
	settling  bool

	next   bridge.Publisher // what the lane's messages go on to
	answer bridge.Settler   // what the publisher's results go on to
}

const clientID = "lane"

func (w *world) start(away bool) {
	if w.process != nil {
		return
	}
	w.sleep(5 * time.Millisecond)
	if w.broker.stopped {
		w.sleep(time.Minute) // another process has the session for as long (doc.go)
	}
	w.lives++
	p := &process{
		Client: &streams.Client{Life: w.lives, Unreachable: away, Wrap: w.sabotage.link, Intercept: w.sabotage.answer},
		w:      w, dir: w.dir, tokens: map[uint64]*letter{}, given: map[*letter]bool{},
	}
	var err error
	if w.setup.Memory {
		p.journal = journal.New()
		w.broker.unproved = true
	} else {
		var opened journal.Opened
		opened, err = journal.Open(journal.Options{
			Dir: p.dir, ClientID: clientID, BootID: fmt.Sprint("boot ", w.boots),
			ChangedAt: func(os.FileInfo) time.Time { return w.changed },
		})
		if opened.Stale != "" && w.sabotage.trusting {
			w.changed = time.Time{}
			err = errors.Join(err, opened.Journal.Close(), os.WriteFile(journalFile(p.dir), w.image, 0o600))
			opened, _ = journal.Open(journal.Options{
				Dir: p.dir, ClientID: clientID, BootID: "boot 0",
				ChangedAt: func(os.FileInfo) time.Time { return time.Time{} },
			})
		}
		p.journal = opened.Journal
		if opened.MovedTo != "" {
			w.fail(badJournal, "the journal was moved aside: %v", opened.Reason)
		}
		if opened.Stale != "" {
			w.logf("the journal is stale: %s", opened.Stale)
		}
		w.changed = time.Time{}
	}
	if err == nil {
		var limits *limit.Live
		limits, err = limit.NewLive(w.limits(), nil)
		if err != nil {
			panic(err)
		}
		p.lane, err = bridge.NewLane(bridge.LaneOptions{
			Name: clientID, Rules: w.rules(), Limits: limits, Journal: p.journal, QoS0Pending: w.setup.Pending,
			Devices: limit.NewBudgets(limit.BudgetOptions{}), Tenants: limit.NewBudgets(limit.BudgetOptions{}),
		})
	}
	if err == nil {
		w.process = p // the publisher opens its link immediately
		w.server.Connect(p.Client)
		p.answer = settler{p}
		if f := w.sabotage.settler; f != nil {
			p.answer = f(p, p.answer)
		}
		p.publisher, err = natspublish.Open(natspublish.Options{
			Open: p.Open, Settler: p, MaxInFlight: w.setup.InFlight, MaxBytesInFlight: w.setup.Bytes,
			StrictOrder: w.setup.Strict, Jitter: w.jitter, Log: zerolog.Nop(),
			Lookup: w.lookup(p), AfterFunc: p.afterFunc,
		})
	}
	if err != nil {
		w.fail(broken, "start the bridge: %v", err)
		return
	}
	p.next = p.publisher
	if f := w.sabotage.publisher; f != nil {
		p.next = f(p, p.next)
	}
	p.lane.Start(p)
	w.logf("the bridge starts")
}

// jitter spreads pauses like the publisher's own, but not at random.
func (w *world) jitter(d time.Duration) time.Duration {
	w.others.Pass()
	w.pauses++
	return d/2 + d*time.Duration(w.pauses*7%16)/16
}

// rules are what the bridge judges by.
func (w *world) rules() *bridge.Rules {
	pattern, err := subjects.ParsePattern("tenant/{tenant}/device/{device}/{type}")
	if err != nil {
		panic(err)
	}
	topics, err := subjects.NewSet([]subjects.Route{{Pattern: pattern}})
	if err != nil {
		panic(err)
	}
	r := &bridge.Rules{
		Topics: topics, ForwardRetained: w.setup.Retained, Quarantine: !w.setup.NoStore,
	}
	if w.setup.Attested {
		if r.Attested, err = subjects.ParsePrefix("bridge/v1"); err != nil {
			panic(err)
		}
	}
	return r
}

func (w *world) limits() limit.Limits {
	l := limit.Limits{MaxPayload: payloadLimit}
	if w.setup.Bounded {
		l.Quarantine = limit.Rate{Rate: 1, Burst: 2}
	}
	if w.setup.Limited {
		l.Device = limit.Rate{Rate: 2, Burst: 4}
	}
	return l
}

// deliver hands one packet to the lane.
func (w *world) deliver(p packet) {
	d := w.process
	if f := w.sabotage.deliver; f != nil && !w.setup.Memory {
		defer f(d, p)()
	}
	d.end = 0
	if !w.setup.Memory && w.tearing() {
		d.word(journalEnd, func(end uint64) uint64 { d.end = end; return end })
	}
	buf := []byte(p.topic + p.payload)
	n := len(p.topic)
	conn, before := w.broker.conn, d.reading
	d.reading = p.letter
	p.lifetime = w.lives
	if p.began == 0 {
		p.began = w.lives
	}
	if p.qos > 0 {
		conn.owe(p)
		conn.letters[p.id] = p.letter
		w.broker.delivered(conn, p)
	}
	counts, skipped := d.lane.Counts(), d.skipped
	d.lane.Deliver(conn, &bridge.Delivery{
		Topic: buf[:n:n], Payload: buf[n:], PayloadSize: len(p.payload), ReceivedAt: time.Now().UnixNano(),
		PacketID: p.id, QoS: p.qos, Dup: p.dup, Retain: p.retain,
	})
	for i := range buf { // it is the read buffer, which the next packet overwrites
		buf[i] = '?'
	}
	d.reading, d.end = before, 0
	if p.qos > 0 {
		return
	}
	now := d.lane.Counts()
	if now.QoS0Dropped > counts.QoS0Dropped {
		w.judgeDropped(p.letter)
		p.counted = true
	}
	if now.RetainedSkipped > counts.RetainedSkipped ||
		now.QuarantineSkipped-counts.QuarantineSkipped > d.skipped-skipped {
		d.skipped++
		w.counted++
		w.count(p.letter)
	}
}

// Publish implements [bridge.Publisher].
func (p *process) Publish(m *bridge.Message) {
	if p.Dead {
		return
	}
	l, again := p.tokens[m.Token]
	if !again {
		l = p.reading
		if m.PacketID > 0 {
			l = p.w.broker.conn.letters[m.PacketID]
		}
		p.tokens[m.Token] = l
		p.w.judgePublished(p, m.Token, l)
		if !p.settling {
			p.w.crossing(atPublish)
			if p.Dead {
				return
			}
		}
	}
	c := *m
	c.Headers = append([]bridge.Header{{Name: streams.Number, Value: strconv.AppendInt(nil, int64(l.number), 10)}}, m.Headers...)
	p.next.Publish(&c)
}

// Settle implements [bridge.Settler].
func (p *process) Settle(r *bridge.Result) {
	p.w.others.Pass()
	p.w.crossing(atSettle)
	if p.Dead {
		return
	}
	if r.Refused != nil {
		c := *r
		m := *r.Message
		m.Headers = slices.DeleteFunc(slices.Clone(m.Headers), func(h bridge.Header) bool { return h.Name == streams.Number })
		c.Message, r = &m, &c
	}
	p.answer.Settle(r)
}

// SettleDone implements [bridge.Settler].
func (p *process) SettleDone() {
	p.w.others.Pass()
	if !p.Dead {
		p.lane.SettleDone()
	}
}

// settler is the lane's side of Settle.
type settler struct{ *process }

func (s settler) Settle(r *bridge.Result) {
	p := s.process
	l := p.tokens[r.Token]
	before, settling := p.lane.Counts().QuarantineSkipped, p.settling
	p.settling = true
	p.lane.Settle(r)
	p.settling = settling
	if n := p.lane.Counts().QuarantineSkipped - before; n > 0 {
		p.skipped += n
		p.w.counted += n
		p.w.count(l)
	}
	if r.Refused == nil {
		l.settled = time.Now()
	}
}

// kill is kill -9: of what is in the bridge's sockets some still arrives, and its
// journal is what its memory contains at this instant.
func (w *world) kill(messages, acks int, torn bool) {
	p := w.process
	if p == nil {
		return
	}
	w.logf("the bridge is killed, torn entry: %v", torn && p.end > 0)
	if !w.setup.Memory && w.inside {
		w.copyJournal(p, torn) // the rest of the step still runs on the old one
	}
	p.Dead = true
	if c := w.broker.conn; c != nil {
		w.broker.cut(0, acks)
		w.broker.disconnected()
	}
	p.Link.Cut(messages, 0)
	w.gone(p)
}

// gone is the end of a process, however it came.
func (w *world) gone(p *process) {
	for _, l := range w.letters {
		if l.qos == 0 && l.lifetime == w.lives && l.settled.IsZero() {
			l.mayFail = true
		}
		if w.setup.Memory {
			l.settled = time.Time{}
		}
	}
	w.process = nil
	w.server.Disconnect()
	w.skipped += p.skips()
	w.remains = append(w.remains, p)
}

// bury closes what a process leaves. It must not be called from within it.
func (w *world) bury() {
	for _, p := range w.remains {
		p.publisher.Close()
		if err := p.journal.Close(); err != nil {
			w.fail(broken, "close the journal: %v", err)
		}
		if p.dir != w.dir {
			os.RemoveAll(p.dir)
		}
	}
	w.remains = nil
}

// stop is SIGTERM: nothing more is read, what is in flight is waited for, its
// PUBACKs are written.
func (w *world) stop() {
	p := w.process
	if p == nil {
		return
	}
	w.logf("the bridge stops")
	w.broker.pipe = nil
	idle := p.lane.Idle()
wait:
	for range 200 {
		select {
		case <-idle:
			break wait
		default:
		}
		w.drain()
		w.server.CommitAll()
		p.Link.Call()
		w.sleep(50 * time.Millisecond)
	}
	if c := w.broker.conn; c != nil {
		c.Flush()
		w.broker.takeAcks(packetIDs)
		p.lane.Disconnected(c)
		w.broker.disconnected()
	}
	p.Dead = true
	p.Link.Cut(1<<20, 0)
	w.gone(p)
	w.bury()
}
