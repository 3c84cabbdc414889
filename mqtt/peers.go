package mqtt

import (
	"sync"
	"time"
)

// Peers are the sessions of one bridge. They tell a broker that restarts, or a load
// balancer, from another client with a lane's client id: the former ends the
// connections of most lanes in one instant.
type Peers struct {
	mu         sync.Mutex
	ended      map[string]time.Time // by client id, of the latest connection
	subscribed map[string]bool      // by client id
}

// NewPeers returns a group without members.
func NewPeers() *Peers { return &Peers{ended: map[string]time.Time{}, subscribed: map[string]bool{}} }

// togetherWithin is short because lanes that another bridge takes over end at almost
// the same time as well, in its first round.
const togetherWithin = 100 * time.Millisecond

func (p *Peers) join(id string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended[id] = time.Time{}
}

func (p *Peers) leave(id string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.ended, id)
	delete(p.subscribed, id)
}

// subscribe notes whether the filters of id are in force.
func (p *Peers) subscribe(id string, inForce bool) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.subscribed[id] = inForce
}

// served tells whether the broker lets one of the others subscribe.
func (p *Peers) served(id string) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for other, inForce := range p.subscribed {
		if inForce && other != id {
			return true
		}
	}
	return false
}

func (p *Peers) end(id string, at time.Time) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended[id] = at
}

// together tells whether most of the others ended when id did.
func (p *Peers) together(id string, at time.Time) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	same := 0
	for other, t := range p.ended {
		if other != id && t.Sub(at).Abs() <= togetherWithin {
			same++
		}
	}
	return same > 0 && 2*same > len(p.ended)-1
}
