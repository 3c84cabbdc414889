// Package leafnode runs the leaf node of nats.mode leaf: it removes from the local store what
// the hub has stored, keeps the store's limits, and reports both.
package leafnode

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/metrics"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/jetstream/leaf"
	"mqtt-nats-bridge/jetstream/streams"
)

// Node is the leaf node of nats.mode leaf: once per second it checks both its
// ends, removes what the hub has stored, and keeps the limits.
type Node struct {
	node    *leaf.Leaf
	config  config.Leaf
	lanes   int
	hub     Hub
	streams []streams.Spec
	log     zerolog.Logger
	// open is closed when lanes may store: immediately, unless the store may have
	// been set back by a power cut.
	open chan struct{}

	health  *conditions
	metrics *metrics.List[Status]

	mu           sync.Mutex
	view         view
	purged       time.Time
	hubAcks      []hubAcks
	paused       bool
	partlyPaused bool      // the latest change failed: each stream may be paused or not
	asked        time.Time // when the streams were looked at again because of unsourced
}

// view is what the last look found.
type view struct {
	link           bool
	linkSince      time.Time
	linkProblem    string
	hub            map[string]uint64 // nil: not asked yet
	given          map[string]bool   // see leaf.SourcedUpTo; nil: the hub has not said, this time
	hubProblem     string
	unsourced      string // what the hub says that it does not take from here
	unsourcedSince time.Time
	backlog        []leaf.Backlog
	used           uint64
}

// hubAcks is how far the hub had stored at a time.
type hubAcks struct {
	at  time.Time
	hub map[string]uint64
}

const (
	lookEvery = time.Second
	// purgeEvery is how often what the hub has is removed while there is room:
	// each time costs the rewriting of a file.
	purgeEvery = 15 * time.Second
	// answerTimeout bounds what is asked of either end in one look.
	answerTimeout = 3 * time.Second
	// acksPerKeep is how many of the hub's words are remembered.
	acksPerKeep = 300
	// laneRoom is room for what a lane may have on its way, twice over.
	laneRoom = 16 << 20
)

// Open starts the leaf node; nil in client mode.
func Open(ctx context.Context, c *config.Config, p *plan.Plan, hub Hub, log zerolog.Logger) (*Node, error) {
	if c.NATS.Mode != config.LeafMode {
		return nil, nil
	}
	o := plan.LeafOptions(c, p.Streams)
	o.Log = func(level, line string) {
		e := log.Debug()
		if level == "error" && !reportedByLook(line) {
			e = log.Error().Str("component", "leaf")
		}
		e.Str("server_level", level).Str("server_says", line).Msg("from the nats-server of the leaf node")
	}
	node, err := leaf.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	n := &Node{
		node: node, config: c.NATS.Leaf, lanes: len(p.Lanes), hub: hub, streams: p.Streams,
		log: log, open: make(chan struct{}), view: view{linkSince: time.Now()}, metrics: statusMetrics(),
	}
	n.health = newConditions(log, func() uint64 { return n.view.used })
	if !node.Rebooted() {
		close(n.open)
	}
	return n, nil
}

// reportedByLook reports whether look logs the event, and only once: nats-server writes lines
// for each attempt to link, and one every ten seconds while the store is full.
func reportedByLook(line string) bool {
	return strings.Contains(strings.ToLower(line), "leafnode") || strings.Contains(line, "resource limits exceeded")
}

// Run looks at both ends, and after the hub's streams, until ctx ends.
func (n *Node) Run(ctx context.Context) {
	var wait sync.WaitGroup
	defer wait.Wait()
	wait.Go(func() { n.manageStreams(ctx) })
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		n.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Await returns true when lanes may store, false when ctx ends before. In client
// mode they may.
func (n *Node) Await(ctx context.Context) bool {
	if n == nil {
		return true
	}
	select {
	case <-n.open:
		return true
	case <-ctx.Done():
		return false
	}
}

func (n *Node) look(ctx context.Context) {
	n.lookAtLink()
	// A timeout of its own: a silent hub must not delay the limits.
	hub, stop := context.WithTimeout(ctx, answerTimeout)
	n.lookAtHub(hub)
	stop()
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if n.node.Rebooted() {
		n.renumber(ctx)
	}
	err := n.prove()
	if err == nil {
		err = n.lookAtStore(ctx)
	}
	if err == nil {
		err = n.keepLimits(ctx)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if errors.Is(err, context.Canceled) {
		return // the bridge stops
	}
	n.health.store.Set(storeError(err))
}

func (n *Node) lookAtLink() {
	up, problem := n.node.Link()
	if !up {
		if err := n.node.Renew(); err != nil {
			problem = err.Error()
		}
	}
	n.mu.Lock()
	changed := up != n.view.link
	if changed {
		n.view.link, n.view.linkSince = up, time.Now()
	}
	news := problem != "" && n.view.linkProblem == ""
	n.view.linkProblem = problem
	n.mu.Unlock()
	switch {
	case changed && up:
		n.log.Info().Str("hub", n.config.URL.String()).Msg("leaf node linked to the hub")
	case changed:
		n.log.Warn().Str("component", "leaf").Str("hub", n.config.URL.String()).Msg("the link to the hub is lost; messages are stored here until it is back")
	case news && !up:
		n.log.Warn().Str("component", "leaf").Str("hub", n.config.URL.String()).Str("problem", problem).Msg("no link to the hub; messages are stored here")
	}
}

// renumber opens the lanes once no sequence can come twice.
func (n *Node) renumber(ctx context.Context) {
	n.mu.Lock()
	hub := n.view.hub
	n.mu.Unlock()
	ask, err := n.node.Renumber(ctx, hub)
	switch {
	case err != nil:
		n.log.Error().Str("component", "leaf").Err(err).Msg("the leaf node's sequences cannot be moved on; trying again")
		return
	case !ask:
		close(n.open)
	}
	n.health.hubKnown.Set(when(ask, errHubUnknown))
}

// prove opens the link once the hub has said that it is not ahead.
func (n *Node) prove() error {
	n.mu.Lock()
	hub := n.view.hub
	n.mu.Unlock()
	return n.node.ConfirmSequences(hub)
}

func (n *Node) lookAtStore(ctx context.Context) error {
	n.mu.Lock()
	hub := n.view.hub
	n.mu.Unlock()
	backlog, err := n.node.Backlog(ctx, hub)
	if err != nil {
		return err
	}
	used, err := n.node.Used(ctx)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.view.backlog, n.view.used = backlog, used
	return nil
}

// Close ends the node; in client mode there is none.
func (n *Node) Close() error {
	if n == nil {
		return nil
	}
	return n.node.Close()
}

// InProcess connects to the local server.
func (n *Node) InProcess() nats.InProcessConnProvider { return n.node.InProcess() }
