package broker

import (
	"bytes"
	"slices"
	"sync"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// maxUnwritten is the number of messages waiting for a client's socket at which QoS 0 messages are
// dropped.
const maxUnwritten = 1 << 15

// message is one published message on its way to a subscriber. Its payload is shared and must not be
// modified.
type message struct {
	topic   string
	payload []byte
	qos     byte
	retain  bool
	// from is the client id that hash_clientid uses; for an attested message, the rule's.
	from string
	// publisher is the client that published it.
	publisher string
}

// delivery is a message in a session. Its packet id is 0 while it is queued, and always at QoS 0.
type delivery struct {
	message
	id  uint16
	dup bool
}

// session is a client's session with the structure of EMQX's: a window of messages in flight and a
// queue behind it. It outlives connections.
type session struct {
	id     string
	broker *Broker

	mu       sync.Mutex
	identity identity
	limits   Zone  // MaxQueue of the zone where it was created, otherwise of its connection
	conn     *conn // nil while disconnected
	window   int
	lastID   uint16
	inflight []delivery // in the order sent
	queue    []delivery
	dropped  int64
	out      []delivery // for the connection's writer

	// State of the last takeover; see Options.TakeoverRace.
	raceUntil time.Time
	raced     map[string]struct{} // publishers that have already lost a message
}

// deliver adds m to the session. plain means that the subscription is not shared.
func (s *session) deliver(m message, plain bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if plain && s.loseToTakeover(m.publisher) {
		return
	}
	d := delivery{message: m}
	switch {
	case s.conn == nil || m.qos > 0 && len(s.inflight) >= s.window:
		s.enqueue(d)
	case m.qos == 0 && len(s.out) >= maxUnwritten:
		s.broker.overflowed.Add(1)
	default:
		s.send(d)
		s.conn.wakeWriter()
	}
}

func (s *session) loseToTakeover(publisher string) bool {
	if s.raced == nil || time.Now().After(s.raceUntil) {
		return false
	}
	if _, ok := s.raced[publisher]; ok {
		return false
	}
	s.raced[publisher] = struct{}{}
	s.broker.sessions.takeoverLost.Add(1)
	return true
}

// enqueue adds d to the queue. As in EMQX, a full queue drops its oldest message.
func (s *session) enqueue(d delivery) {
	if len(s.queue) >= s.limits.MaxQueue {
		s.queue = s.queue[1:]
		s.dropped++
		s.broker.sessions.queueFull.Add(1)
	}
	s.queue = append(s.queue, d)
}

// send passes d to the connection's writer. Above QoS 0, d becomes part of the window.
func (s *session) send(d delivery) {
	if d.qos > 0 {
		d.id = s.nextID()
		s.inflight = append(s.inflight, d)
	}
	s.out = append(s.out, d)
}

// nextID returns the next packet id. It skips the ids in use, of which there are at most MaxInflight.
func (s *session) nextID() uint16 {
	for {
		if s.lastID++; s.lastID == 0 {
			s.lastID = 1
		}
		if !slices.ContainsFunc(s.inflight, func(d delivery) bool { return d.id == s.lastID }) {
			return s.lastID
		}
	}
}

// acknowledged handles a PUBACK, or the PUBREC of a QoS 2 message. It ignores those of former
// connections.
func (s *session) acknowledged(c *conn, id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c {
		return
	}
	i := slices.IndexFunc(s.inflight, func(d delivery) bool { return d.id == id })
	switch {
	case i < 0:
		return
	case i == 0:
		s.inflight = s.inflight[1:]
	default:
		s.inflight = slices.Delete(s.inflight, i, i+1)
	}
	s.refill()
	c.wakeWriter()
}

// refill moves messages from the queue into the window.
func (s *session) refill() {
	for len(s.queue) > 0 && (s.queue[0].qos == 0 || len(s.inflight) < s.window) {
		d := s.queue[0]
		s.queue = s.queue[1:]
		s.send(d)
	}
}

// attach starts a connection after its CONNACK. It resends the messages in flight in order, with
// their packet ids, and then sends the queue. Resent messages have DUP set, unless the session was
// taken over from an open connection.
func (s *session) attach(c *conn, cl *mochi.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn, s.identity = c, c.identity
	zone := c.zone()
	s.limits.MaxInflight, s.limits.MaxPacket = zone.MaxInflight, zone.MaxPacket
	s.window = zone.MaxInflight
	if r := int(cl.Properties.Props.ReceiveMaximum); cl.Properties.ProtocolVersion == 5 && r > 0 {
		s.window = min(s.window, r)
	}
	s.out = nil
	for i := range s.inflight {
		s.inflight[i].dup = s.inflight[i].dup || !c.takesOver
		s.out = append(s.out, s.inflight[i])
	}
	s.refill()
	c.writer.Go(func() { s.write(c, cl.Properties.ProtocolVersion) })
	c.wakeWriter()
}

// attachedTo reports whether the session belongs to c.
func (s *session) attachedTo(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn == c
}

// detach removes the connection c, unless another one has replaced it.
func (s *session) detach(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == c {
		s.conn, s.out = nil, nil
	}
}

// write sends the session's messages to c until c is closed.
func (s *session) write(c *conn, version byte) {
	buf := new(bytes.Buffer)
	for c.awaitWork() {
		s.mu.Lock()
		var out []delivery
		if s.conn == c {
			out, s.out = s.out, nil
		}
		s.mu.Unlock()
		for len(out) > 0 {
			buf.Reset()
			for len(out) > 0 && buf.Len() < 16<<10 {
				encode(buf, &out[0], version)
				out = out[1:]
			}
			if _, err := c.Write(buf.Bytes()); err != nil {
				_ = c.Close()
				return
			}
		}
	}
}

func encode(buf *bytes.Buffer, d *delivery, version byte) {
	pk := packets.Packet{
		ProtocolVersion: version,
		FixedHeader:     packets.FixedHeader{Type: packets.Publish, Qos: d.qos, Dup: d.dup, Retain: d.retain},
		TopicName:       d.topic, Payload: d.payload, PacketID: d.id,
	}
	_ = pk.PublishEncode(buf) // fails only if a message above QoS 0 has no packet id
}

// client describes the session for [Broker.Clients].
func (s *session) client() Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := Client{
		ID: s.id, Username: s.identity.username, Device: s.identity.device, Connected: s.conn != nil,
		Pending: len(s.inflight), InFlight: len(s.inflight), Queued: len(s.queue), Dropped: s.dropped, Limits: s.limits,
	}
	for _, d := range s.queue {
		if d.qos > 0 {
			c.Pending++
		}
	}
	return c
}
