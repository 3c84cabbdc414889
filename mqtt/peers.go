package mqtt

import (
	"strings"
	"sync"
	"time"

	"mqtt-nats-bridge/internal/neterror"
)

// Peers are the sessions of one bridge. They distinguish a restart of the broker or load balancer
// from a takeover by another client: a restart ends the connections of most lanes at the same
// instant. A problem that several have is logged once.
type Peers struct {
	lanes int // of the bridge

	mu         sync.Mutex
	ended      map[string]time.Time // by client id: end of the latest connection
	subscribed map[string]bool      // by client id
	problems   map[string]string    // by client id, as logged; none: subscribed since
}

// NewPeers returns an empty group for a bridge with that many lanes.
func NewPeers(lanes int) *Peers {
	return &Peers{lanes: lanes, ended: map[string]time.Time{}, subscribed: map[string]bool{}, problems: map[string]string{}}
}

// endTolerance is short, because lanes that another bridge takes over in its first round also end
// at almost the same time.
const endTolerance = 100 * time.Millisecond

func (p *Peers) join(id string) { p.end(id, time.Time{}) }

func (p *Peers) leave(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.ended, id)
	delete(p.subscribed, id)
	delete(p.problems, id)
}

// repeats records a problem of id and reports whether another session has the same one, and how
// many lanes there are.
func (p *Peers) repeats(id, problem string) (repeated bool, lanes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	problem = neterror.WithoutLocalAddress(strings.ReplaceAll(problem, id, ""))
	for other, its := range p.problems {
		repeated = repeated || other != id && its == problem
	}
	p.problems[id] = problem
	return repeated, p.lanes
}

// recovered records that id has no problem.
func (p *Peers) recovered(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.problems, id)
}

// subscribe records whether the filters of id are granted.
func (p *Peers) subscribe(id string, granted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.subscribed[id] = granted
}

// otherSubscribed reports whether the broker lets one of the other sessions subscribe.
func (p *Peers) otherSubscribed(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for other, granted := range p.subscribed {
		if granted && other != id {
			return true
		}
	}
	return false
}

func (p *Peers) end(id string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended[id] = at
}

// endedTogether reports whether most of the other sessions ended at the same time as id.
func (p *Peers) endedTogether(id string, at time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	same := 0
	for other, t := range p.ended {
		if other != id && t.Sub(at).Abs() <= endTolerance {
			same++
		}
	}
	return same > 0 && 2*same > len(p.ended)-1
}
