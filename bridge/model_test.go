//go:build unix

package bridge

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"mqtt-nats-bridge/bridge/journal"
)

// TestLaneModel runs lane, ring and journal against a model of a
// broker and of a stream, with every failure between them in any order: connections
// that die with packets and PUBACKs in them, retransmissions on the same
// connection, answers in any order and lost ones, refusals, kill -9 of the bridge,
// a broker that loses the session. At each step:
//
//   - what is acknowledged is stored,
//   - nothing is stored under two ids,
//   - PUBACKs go out in the order of receipt, on the connection that delivered,
//   - messages are published in the order in which the broker sent them,
//
// and when no event is pending, every message that the broker did not lose itself
// is stored.
func TestLaneModel(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(base, "")
		require.NoError(t, err)
		defer os.RemoveAll(dir)
		w := newWorld(t, dir)
		defer func() { w.journal.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"":           w.check,
			"publish":    w.publish,
			"send":       w.send,
			"read":       w.read,
			"retransmit": w.retransmit,
			"settle":     w.settle,
			"store":      w.store,
			"refuse":     w.refuse,
			"takeAck":    w.takeAck,
			"disconnect": w.disconnect,
			"connect":    w.connect,
			"kill":       w.kill,
			"forget":     w.loseSession,
		})
		w.rest()
	})
}

// letter is one message as its device published it. Its content is not unique: devices send the
// same bytes repeatedly.
type letter struct {
	number         int // in the order of the broker's first sending
	topic, payload string
	ids            map[string]bool // under which it is stored
	lost           bool            // by the broker
	excused        bool            // may be stored twice
	published      bool            // by the lane
}

func (l *letter) stored() bool { return len(l.ids) > 0 }

// packet is a PUBLISH between broker and lane.
type packet struct {
	id  uint16
	dup bool
	*letter
}

type world struct {
	t *rapid.T

	lane    *Lane
	dir     string // of the journal's file
	journal *journal.Journal
	now     int64

	// The broker.
	letters  []*letter
	queue    []*letter
	inFlight []packet // in the order of sending, each one once
	nextID   uint16
	sent     int
	session  bool // kept

	// The connection: packets on their way to the lane, and what the lane
	// has pending and acknowledged on it.
	conn    *brokerEnd
	pipe    []packet
	pending []uint16
	acked   []uint16

	// The stream: what was published and not answered, in order; which ids it
	// contains, except in quarantine.
	reading *letter
	waiting []*outstanding
	holds   map[string]*letter
	newest  int // number of the letter published last
}

type outstanding struct {
	*published
	letter *letter
	stored bool // the answer is in flight
}

func newWorld(t *rapid.T, dir string) *world {
	w := &world{
		t: t, now: noon, holds: map[string]*letter{},
		dir: dir, nextID: uint16(rapid.SampledFrom([]int{1, 1000, 65_530}).Draw(t, "first id")),
	}
	w.journal = openJournal(w.t, w.dir)
	w.start()
	return w
}

// start starts a bridge with the existing journal.
func (w *world) start() {
	s := play(w.t, func(o *LaneOptions) {
		o.Journal = w.journal
		o.Now = func() int64 { return w.now }
	})
	s.Disconnected(s.conn)
	w.lane = s.Lane
	s.stream.onPublish = func(p *published) {
		l := w.reading
		for _, o := range w.waiting {
			if o.token == p.token { // the quarantine copy of a refused one
				l = o.letter
			}
		}
		if !l.published {
			require.Greater(w.t, l.number, w.newest, "published out of order")
			w.newest, l.published = l.number, true
		}
		w.waiting = append(w.waiting, &outstanding{published: p, letter: l})
	}
	w.newest = 0
	for _, l := range w.letters {
		l.published = false
	}
}

func (w *world) publish(t *rapid.T) {
	l := &letter{
		topic:   deviceTopic("acme/dev-" + rapid.SampledFrom([]string{"1", "2"}).Draw(t, "device")),
		payload: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "payload"),
		ids:     map[string]bool{},
	}
	w.letters, w.queue = append(w.letters, l), append(w.queue, l)
}

const brokerWindow = 6

// send models the broker sending the next message, with consecutive packet ids.
func (w *world) send(t *rapid.T) {
	if w.conn == nil || len(w.queue) == 0 || len(w.inFlight) == brokerWindow {
		t.Skip("nothing to send")
	}
	w.sent++
	l := w.queue[0]
	l.number = w.sent
	p := packet{id: w.nextID, letter: l}
	if w.nextID++; w.nextID == 0 {
		w.nextID = 1
	}
	w.queue = w.queue[1:]
	w.inFlight = append(w.inFlight, p)
	w.pipe = append(w.pipe, p)
}

// retransmit models a broker's retry interval: DUP on the same connection.
func (w *world) retransmit(t *rapid.T) {
	if w.conn == nil || len(w.inFlight) == 0 {
		t.Skip("nothing to send again")
	}
	p := rapid.SampledFrom(w.inFlight).Draw(t, "packet")
	if slices.Contains(w.acked, p.id) {
		t.Skip("its PUBACK crosses it: it would be stored twice")
	}
	p.dup = true
	w.pipe = append(w.pipe, p)
}

// read models the lane reading one packet.
func (w *world) read(t *rapid.T) {
	if len(w.pipe) == 0 {
		t.Skip("nothing to read")
	}
	p := w.pipe[0]
	w.pipe = w.pipe[1:]
	pending := false
	for _, id := range w.pending {
		pending = pending || id == p.id
	}
	if !pending {
		w.pending = append(w.pending, p.id)
	}
	w.reading = p.letter
	topic := []byte(p.topic)
	w.lane.Deliver(w.conn, &Delivery{
		Topic: topic, Payload: []byte(p.payload), PayloadSize: len(p.payload),
		PacketID: p.id, QoS: 1, Dup: p.dup, ReceivedAt: w.now,
	})
	copy(topic, "overwritten")
	w.reading = nil
}

// acknowledged models a PUBACK entering the connection's buffer.
func (w *world) acknowledged(id uint16) {
	require.NotEmpty(w.t, w.pending, "PUBACK %d for nothing", id)
	require.Equal(w.t, w.pending[0], id, "PUBACK out of order")
	w.pending = w.pending[1:]
	w.acked = append(w.acked, id)
	for _, p := range w.inFlight {
		if p.id == id {
			require.True(w.t, p.stored(), "PUBACK %d before its message is stored", id)
		}
	}
}

// pick takes any unanswered message.
func (w *world) pick(t *rapid.T) (int, *outstanding) {
	if len(w.waiting) == 0 {
		t.Skip("nothing to answer")
	}
	i := rapid.IntRange(0, len(w.waiting)-1).Draw(t, "message")
	return i, w.waiting[i]
}

// keep stores a message in the stream.
func (w *world) keep(o *outstanding) (duplicate bool) {
	key := o.id
	if o.headers[HeaderReason] != "" {
		key = "quarantine " + o.id
	}
	if other, ok := w.holds[key]; ok && !o.stored {
		require.Same(w.t, other, o.letter, "a message was taken for another's duplicate: lost")
		duplicate = true
	}
	o.stored = true
	w.holds[key] = o.letter
	o.letter.ids[o.id] = true
	if !o.letter.excused {
		require.Len(w.t, o.letter.ids, 1, "stored twice, under different ids")
	}
	return duplicate
}

func (w *world) settle(t *rapid.T) {
	i, o := w.pick(t)
	duplicate := w.keep(o)
	w.waiting = append(w.waiting[:i:i], w.waiting[i+1:]...)
	w.lane.Settle(&Result{Token: o.token, Duplicate: duplicate})
}

// store stores a message whose answer is delayed.
func (w *world) store(t *rapid.T) {
	_, o := w.pick(t)
	w.keep(o)
}

func (w *world) refuse(t *rapid.T) {
	i, o := w.pick(t)
	if o.stored {
		t.Skip("stored already")
	}
	w.lane.Settle(&Result{Token: o.token, Refused: errRefused, Message: o.message()})
	w.waiting = append(w.waiting[:i:i], w.waiting[i+1:]...)
}

// takeAck models a PUBACK reaching the broker.
func (w *world) takeAck(t *rapid.T) {
	if len(w.acked) == 0 {
		t.Skip("no PUBACK")
	}
	id := w.acked[0]
	w.acked = w.acked[1:]
	for i, p := range w.inFlight {
		if p.id == id {
			w.inFlight = append(w.inFlight[:i:i], w.inFlight[i+1:]...)
			return
		}
	}
}

func (w *world) disconnect(t *rapid.T) {
	if w.conn == nil {
		t.Skip("not connected")
	}
	conn := w.conn
	w.pipe, w.pending, w.acked, w.conn = nil, nil, nil, nil
	w.lane.Disconnected(conn)
	conn.onAck = func(id uint16) { require.Fail(w.t, "PUBACK on a dead connection", "%d", id) }
}

// connect resumes the session: messages in flight are redelivered in order, with DUP (MQTT 3.1.1
// §4.4).
func (w *world) connect(t *rapid.T) {
	if w.conn != nil {
		t.Skip("connected")
	}
	w.conn = &brokerEnd{onAck: w.acknowledged}
	w.lane.Connected(w.conn, w.session)
	if !w.session {
		w.introduce()
	}
	w.session = true
	for _, p := range w.inFlight {
		p.dup = true
		// A broker that restarts its numbering begins like this and may cause a second copy.
		p.letter.excused = p.letter.excused || w.inFlight[0].id == 1
		w.pipe = append(w.pipe, p)
	}
}

// introduce delivers the first message of a session to both ends. A broker that redelivers from the
// first packet on may have it stored twice.
func (w *world) introduce() {
	queue := w.queue
	w.queue = nil
	w.publish(w.t)
	w.send(w.t)
	w.read(w.t)
	o := w.waiting[len(w.waiting)-1]
	w.waiting = w.waiting[:len(w.waiting)-1]
	w.lane.Settle(&Result{Token: o.token, Duplicate: w.keep(o)})
	w.takeAck(w.t)
	w.queue = queue
}

// kill models kill -9 of the bridge. The stream still stores a random prefix of the messages in
// flight.
func (w *world) kill(t *rapid.T) {
	for _, o := range w.waiting[:rapid.IntRange(0, len(w.waiting)).Draw(t, "arrived")] {
		w.keep(o)
	}
	w.waiting, w.pipe, w.pending, w.acked, w.conn = nil, nil, nil, nil, nil
	// The mapped pages survive, and a new process loads them. If it assigned a number twice, a
	// false duplicate would lose a message.
	require.NoError(t, w.journal.Close())
	w.journal = openJournal(w.t, w.dir)
	w.start()
}

// loseSession models a broker that restarts without its sessions and restarts its numbering.
func (w *world) loseSession(t *rapid.T) {
	if w.conn != nil {
		w.disconnect(t)
	}
	for _, p := range w.inFlight {
		p.lost = true
	}
	for _, l := range w.queue {
		l.lost = true
	}
	w.queue, w.inFlight, w.nextID, w.session = nil, nil, 1, false
}

func (w *world) check(t *rapid.T) {
	if len(w.waiting) == 0 {
		require.Empty(t, w.pending, "everything is answered, and PUBACKs are withheld")
	}
}

// rest processes events until none is pending.
func (w *world) rest() {
	if w.conn == nil {
		w.connect(w.t)
	}
	for len(w.queue)+len(w.inFlight)+len(w.pipe)+len(w.waiting) > 0 {
		switch {
		case len(w.pipe) > 0:
			w.read(w.t)
		case len(w.waiting) > 0:
			o := w.waiting[0]
			w.waiting = w.waiting[1:]
			w.lane.Settle(&Result{Token: o.token, Duplicate: w.keep(o)})
		case len(w.acked) > 0:
			w.takeAck(w.t)
		case len(w.queue) > 0 && len(w.inFlight) < brokerWindow:
			w.send(w.t)
		default:
			require.Fail(w.t, "packets without a PUBACK", fmt.Sprint(len(w.inFlight)))
		}
	}
	for _, l := range w.letters {
		require.True(w.t, l.lost || l.stored(), "lost")
	}
	require.Zero(w.t, w.lane.Counts().InFlight)
	require.Zero(w.t, w.lane.unsettledQoS0)
}
