package mqtt

import (
	"sync"
	"time"
)

// Peers are the sessions of one bridge. They distinguish a broker or load balancer that restarts
// from another client with a lane's client id: a restart ends the connections of most lanes at the
// same instant.
type Peers struct {
	mu         sync.Mutex
	ended      map[string]time.Time // by client id, of the latest connection
	subscribed map[string]bool      // by client id
}

// NewPeers returns a group without members.
func NewPeers() *Peers { return &Peers{ended: map[string]time.Time{}, subscribed: map[string]bool{}} }

// togetherWithin is short: lanes that another bridge takes over also end at almost the same time,
// in its first round.
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

// subscribe records whether the filters of id are granted.
func (p *Peers) subscribe(id string, inForce bool) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.subscribed[id] = inForce
}

// served reports whether the broker lets one of the other sessions subscribe.
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

// together reports whether most of the others ended at the same time as id.
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
