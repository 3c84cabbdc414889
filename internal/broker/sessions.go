package broker

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// sessions contains all sessions by client id. Both listeners share one name space (E2).
type sessions struct {
	// establishing is locked during a session takeover.
	establishing sync.Mutex

	mu   sync.RWMutex
	byID map[string]*session

	queueFull, takeoverLost atomic.Int64
}

func (s *sessions) get(id string) *session {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byID[id]
}

func (s *sessions) all() []*session {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Values(s.byID))
}

// OnSessionEstablish closes an older connection with the same client id, waits for its end and takes
// its session over. This does not depend on the older connection's listener or its clean-session
// flag. mochi then takes over the subscriptions.
func (h *hook) OnSessionEstablish(cl *mochi.Client, pk packets.Packet) {
	c, all := connOf(cl), &h.b.sessions
	all.establishing.Lock()
	c.establishing = true
	if old, ok := h.b.server.Clients.Get(cl.ID); ok {
		previous := connOf(old)
		c.takesOver = previous.session != nil && previous.session.attachedTo(previous)
		previous.takenOver.Store(true)
		previous.end()
	}
	// With these properties mochi ends no session itself; see [Broker.disconnected].
	v5 := cl.Properties.ProtocolVersion == 5
	c.clean = pk.Connect.Clean && !v5 || v5 && cl.Properties.Props.SessionExpiryInterval == 0
	cl.Properties.Clean = false
	cl.Properties.Props.SessionExpiryInterval, cl.Properties.Props.SessionExpiryIntervalFlag = 1, false

	all.mu.Lock()
	defer all.mu.Unlock()
	s := all.byID[cl.ID]
	if s == nil || pk.Connect.Clean {
		s = &session{id: cl.ID, broker: h.b, identity: c.identity, limits: c.zone()}
		all.byID[cl.ID] = s
	} else if race := h.b.options.TakeoverRace; race > 0 {
		s.mu.Lock()
		s.raceUntil, s.raced = time.Now().Add(race), make(map[string]struct{})
		s.mu.Unlock()
	}
	c.session = s
}

// OnSessionEstablished attaches the connection to its session, after the CONNACK.
func (h *hook) OnSessionEstablished(cl *mochi.Client, _ packets.Packet) {
	c := connOf(cl)
	c.session.attach(c, cl)
	h.b.established(c)
}

func (b *Broker) established(c *conn) {
	if c.establishing {
		c.establishing = false
		b.sessions.establishing.Unlock()
	}
}

// disconnected detaches a connection from its session, as the last step of its goroutine.
func (b *Broker) disconnected(c *conn) {
	b.established(c)
	s := c.session
	if s == nil {
		return
	}
	s.detach(c)
	if c.clean && !c.takenOver.Load() {
		b.end(s)
	}
}

// end deletes a session with its queue and subscriptions.
func (b *Broker) end(s *session) {
	b.sessions.mu.Lock()
	defer b.sessions.mu.Unlock()
	if b.sessions.byID[s.id] != s {
		return
	}
	delete(b.sessions.byID, s.id)
	if cl, ok := b.server.Clients.Get(s.id); ok {
		b.server.UnsubscribeClient(cl)
		b.server.Clients.Delete(s.id)
	}
}

// Cut closes a client's connection without a DISCONNECT, as a broker does under memory pressure. The
// session remains unless it is a clean one. Cut waits until the broker has finished with the
// connection. It returns false if the client was not connected.
func (b *Broker) Cut(clientID string) bool {
	cl, ok := b.server.Clients.Get(clientID)
	if !ok || cl.Closed() {
		return false
	}
	connOf(cl).end()
	return true
}

// Kick deletes a session with its queue, connected or not, like EMQX's "clients kick" (E9). It
// reports whether the session existed.
func (b *Broker) Kick(clientID string) bool {
	b.sessions.establishing.Lock()
	defer b.sessions.establishing.Unlock()
	s := b.sessions.get(clientID)
	if s == nil {
		return false
	}
	b.Cut(clientID)
	b.end(s)
	return true
}
