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
	"mqtt-nats-bridge/internal/simulate/jetstream"
	natspublish "mqtt-nats-bridge/jetstream/publish"
	"mqtt-nats-bridge/subjects"
)

// process is one bridge from start to end. It sits between the lane and the publisher, as the
// lane's [bridge.Publisher] and the publisher's [bridge.Settler], to observe their calls and to
// interrupt or break them.
type process struct {
	*jetstream.Client
	w         *world
	dir       string
	lane      *bridge.Lane
	publisher *natspublish.Publisher
	journal   *journal.Journal

	thawed chan struct{} // closed when the process resumes; nil: it is not suspended

	reading   *letter            // the message in Deliver
	tokens    map[uint64]*letter // published messages
	given     map[*letter]bool
	lastToken uint64
	lastSent  int    // of the messages published for the first time
	skipped   uint64 // messages counted instead of stored
	end       uint64 // end of its journal before Deliver
	settling  bool
}

const clientID = "lane"

func (w *world) start(away bool) {
	if w.process != nil {
		return
	}
	w.sleep(5 * time.Millisecond)
	if w.broker.stopped {
		w.sleep(time.Minute) // another process had the session at least that long (doc.go)
	}
	w.lives++
	p := &process{
		Client: &jetstream.Client{
			Life: w.lives, Unreachable: away,
			Sending: w.sabotage.sending, Intercept: w.sabotage.answer, Unnumbered: w.sabotage.unnumbered,
		},
		w: w, dir: w.dir, tokens: map[uint64]*letter{}, given: map[*letter]bool{},
	}
	epoch := func() uint64 { return uint64(w.lives) } // random ones repeat: see doc.go
	if w.sabotage.sameEpoch {
		epoch = func() uint64 { return 0 }
	}
	var err error
	if w.setup.Memory {
		p.journal = journal.NewEpoch(epoch())
		w.broker.unproved = true
	} else {
		open := func(boot int, changed time.Time) (journal.Opened, error) {
			return journal.Open(journal.Options{
				Dir: p.dir, ClientID: clientID, BootID: fmt.Sprint("boot ", boot),
				ChangedAt: func(os.FileInfo) time.Time { return changed }, Epoch: epoch,
			})
		}
		var opened journal.Opened
		opened, err = open(w.boots, w.changed)
		if opened.Stale != "" && w.sabotage.trustsStaleJournal {
			err = errors.Join(err, opened.Journal.Close(), os.WriteFile(journalFile(p.dir), w.image, 0o600))
			opened, _ = open(0, time.Time{})
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
		w.process = p // set it first: the publisher opens its link immediately
		w.server.Connect(p.Client)
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
	p.lane.Start(p)
	w.logf("the bridge starts")
}

// jitter spreads delays like the publisher's own jitter, but deterministically.
func (w *world) jitter(d time.Duration) time.Duration {
	w.others.Pass()
	w.pauses++
	return d/2 + d*time.Duration(w.pauses*7%16)/16
}

// rules returns the validation rules of the bridge.
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

// deliver passes one packet to the lane.
func (w *world) deliver(p packet) {
	d := w.process
	if f := w.sabotage.deliver; f != nil && !w.setup.Memory {
		f(d)
	}
	d.end = 0
	if !w.setup.Memory && w.pending != nil && w.pending.op == kill { // inside Publish
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
		conn.expectAck(p)
		conn.letters[p.id] = p.letter
		w.broker.delivered(conn, p)
	}
	counts, skipped := d.lane.Counts(), d.skipped
	d.lane.Deliver(conn, &bridge.Delivery{
		Topic: buf[:n:n], Payload: buf[n:], PayloadSize: len(p.payload), ReceivedAt: time.Now().UnixNano(),
		PacketID: p.id, QoS: p.qos, Dup: p.dup, Retain: p.retain,
	})
	for i := range buf { // like a read buffer that the next packet overwrites
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
	c.Headers = append([]bridge.Header{{Name: jetstream.Number, Value: strconv.AppendInt(nil, int64(l.number), 10)}}, m.Headers...)
	if f := p.w.sabotage.publish; f != nil {
		f(p, &c)
		return
	}
	p.publisher.Publish(&c)
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
		m.Headers = slices.DeleteFunc(slices.Clone(m.Headers), func(h bridge.Header) bool { return h.Name == jetstream.Number })
		c.Message, r = &m, &c
	}
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
	if p.w.sabotage.forgetsStored && !p.w.setup.Memory {
		p.forgetStored()
	}
}

// SettleDone implements [bridge.Settler].
func (p *process) SettleDone() {
	p.w.others.Pass()
	if !p.Dead {
		p.lane.SettleDone()
	}
}

// kill is kill -9. Some of the data in the bridge's sockets still arrives, and the journal has the
// present contents of its mapped memory.
func (w *world) kill(messages, acks int, torn bool) {
	p := w.process
	if p == nil {
		return
	}
	w.logf("the bridge is killed, torn entry: %v", torn && p.end > 0)
	if !w.setup.Memory && w.inside {
		w.copyJournal(p, torn) // the rest of the step still uses the old one
	}
	p.Dead = true
	if c := w.broker.conn; c != nil {
		w.broker.cut(0, acks)
		w.broker.disconnected()
	}
	p.Link.Cut(messages, 0)
	w.ended(p)
}

// ended records that a process has ended, for any reason.
func (w *world) ended(p *process) {
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
	w.endedProcesses = append(w.endedProcesses, p)
}

// closeEnded closes the resources of ended processes. It must not be called from within one.
func (w *world) closeEnded() {
	for _, p := range w.endedProcesses {
		p.publisher.Close()
		if err := p.journal.Close(); err != nil {
			w.fail(broken, "close the journal: %v", err)
		}
		if p.dir != w.dir {
			os.RemoveAll(p.dir)
		}
	}
	w.endedProcesses = nil
}

// stop is SIGTERM: the bridge reads no more packets, waits for messages in flight and writes their
// PUBACKs.
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
	w.ended(p)
	w.closeEnded()
}
