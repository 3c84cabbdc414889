// Package leafnode runs the leaf node of nats.mode leaf. It removes messages that the hub has stored
// from the local store, enforces the store's limits, and reports its state.
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

// Node is the leaf node of nats.mode leaf. Once per second it checks the hub and the local store,
// removes messages that the hub has stored, and enforces the limits.
type Node struct {
	node    *leaf.Leaf
	config  config.Leaf
	lanes   int
	hub     Hub
	streams []streams.Spec
	log     zerolog.Logger
	// open is closed when lanes may store. That is immediate, unless the store may have lost messages
	// in a power cut.
	open chan struct{}

	health  *conditions
	metrics *metrics.List[Status]

	mu   sync.Mutex
	view view // written only by poll, under mu; so poll reads it without mu

	// Used only by poll.
	purgedAt     time.Time
	hubAcks      []hubAcks
	paused       bool
	partlyPaused bool      // the last change failed, so some streams may be paused and others not
	recheckedAt  time.Time // when a check of the streams was last requested because of unsourced
}

// view is the result of the last poll.
type view struct {
	link           LinkStatus
	hub            map[string]uint64 // the hub's positions; nil: not known yet
	upToDate       map[string]bool   // see leaf.SourcedUpTo; nil: not known in this poll
	hubProblem     string
	unsourced      string // the error about streams that the hub does not source
	unsourcedSince time.Time
	backlog        []leaf.Backlog
	used           uint64
}

// hubAcks contains the hub's positions at one time.
type hubAcks struct {
	at  time.Time
	hub map[string]uint64
}

const (
	pollEvery = time.Second
	// purgeEvery is the interval between purges while the store has space. Each purge rewrites a
	// file.
	purgeEvery = 15 * time.Second
	// pollTimeout bounds the requests to the hub, and those to the local store, in one poll.
	pollTimeout = 3 * time.Second
	// acksPerKeep is the number of positions that are remembered within nats.leaf.keep.
	acksPerKeep = 300
	// laneReserve is the space reserved per lane: twice the messages that a lane can have in flight.
	laneReserve = 16 << 20
)

// Open starts the leaf node. In client mode it returns nil.
func Open(ctx context.Context, c *config.Config, p *plan.Plan, hub Hub, log zerolog.Logger) (*Node, error) {
	if c.NATS.Mode != config.LeafMode {
		return nil, nil
	}
	o := plan.LeafOptions(c, p.Streams)
	o.Log = func(level, line string) {
		e := log.Debug()
		if level == "error" && !reportedByPoll(line) {
			e = log.Error().Str("component", "leaf")
		}
		e.Str("server_level", level).Str("line", line).Msg("embedded nats-server")
	}
	node, err := leaf.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	n := &Node{
		node: node, config: c.NATS.Leaf, lanes: len(p.Lanes), hub: hub, streams: p.Streams,
		log: log, open: make(chan struct{}), view: view{link: LinkStatus{Since: time.Now().UTC()}}, metrics: statusMetrics(),
	}
	n.health = newConditions(log, func() uint64 { return n.view.used })
	if !node.Rebooted() {
		close(n.open)
	}
	return n, nil
}

// reportedByPoll reports whether poll logs the event of a line itself, and only once. nats-server logs
// each attempt to link, and a full store every ten seconds.
func reportedByPoll(line string) bool {
	return strings.Contains(strings.ToLower(line), "leafnode") || strings.Contains(line, "resource limits exceeded")
}

// Run polls the hub and the local store, and manages the hub's streams, until ctx ends.
func (n *Node) Run(ctx context.Context) {
	var wait sync.WaitGroup
	defer wait.Wait()
	wait.Go(func() { n.manageStreams(ctx) })
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		n.poll(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Await waits until lanes may store. It returns false if ctx ends first. In client mode it returns
// immediately.
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

func (n *Node) poll(ctx context.Context) {
	n.pollLink()
	// The hub has its own timeout, so that a hub that does not answer does not delay the limits.
	hub, stop := context.WithTimeout(ctx, pollTimeout)
	n.pollHub(hub)
	stop()
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	if n.node.Rebooted() {
		n.renumber(ctx)
	}
	// The link is opened once the hub has reported that it is not ahead.
	err := n.node.ConfirmSequences(n.view.hub)
	if err == nil {
		err = n.pollStore(ctx)
	}
	if err == nil {
		err = n.enforceLimits(ctx)
	}
	if errors.Is(err, context.Canceled) {
		return // the bridge is shutting down
	}
	n.health.store.Set(storeError(err))
}

func (n *Node) pollLink() {
	up, problem := n.node.Link()
	if !up {
		if err := n.node.Renew(); err != nil {
			problem = err.Error()
		}
	}
	link := n.view.link
	changed, isNew := up != link.Connected, problem != "" && link.Problem == ""
	if changed {
		link.Connected, link.Since = up, time.Now().UTC()
	}
	link.Problem = problem
	n.mu.Lock()
	n.view.link = link
	n.mu.Unlock()
	switch {
	case changed && up:
		n.log.Info().Str("hub", n.config.URL.String()).Msg("leaf node linked to the hub")
	case changed:
		n.log.Warn().Str("component", "leaf").Str("hub", n.config.URL.String()).Msg("link to the hub lost, messages are stored locally")
	case isNew && !up:
		n.log.Warn().Str("component", "leaf").Str("hub", n.config.URL.String()).Str("problem", problem).Msg("no link to the hub, messages are stored locally")
	}
}

// renumber opens the lanes once no sequence number can be used twice.
func (n *Node) renumber(ctx context.Context) {
	unknown, err := n.node.Renumber(ctx, n.view.hub)
	switch {
	case err != nil:
		n.log.Error().Str("component", "leaf").Err(err).Msg("advance of the local sequences failed, retrying")
		return
	case !unknown:
		close(n.open)
	}
	n.health.hubUnknown.Set(errIf(unknown, errHubUnknown))
}

func (n *Node) pollStore(ctx context.Context) error {
	backlog, err := n.node.Backlog(ctx, n.view.hub)
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

// Close stops the node. In client mode it does nothing.
func (n *Node) Close() error {
	if n == nil {
		return nil
	}
	return n.node.Close()
}

// InProcess returns a provider of connections to the embedded server.
func (n *Node) InProcess() nats.InProcessConnProvider { return n.node.InProcess() }
