package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/leaf"
	"mqtt-nats-bridge/jetstream/streams"
)

// leafUnit is the leaf node of nats.mode leaf: it looks once a second at both its
// ends, removes what the hub has stored, and keeps the limits.
type leafUnit struct {
	node    *leaf.Leaf
	config  config.Leaf
	lanes   int
	control *control
	streams []streams.Spec
	log     zerolog.Logger
	// open is closed when lanes may store: at once, unless the store may have
	// been set back by a power cut.
	open chan struct{}

	health *leafHealth

	mu     sync.Mutex
	view   leafView
	purged time.Time
	heard  []heard
	shut   bool
	ajar   bool      // the latest shutting or opening had an error: either may be, of each stream
	asked  time.Time // when the streams were looked at again because of unsourced
}

// leafView is what the last look found.
type leafView struct {
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

// heard is how far the hub had stored at a time.
type heard struct {
	at  time.Time
	hub map[string]uint64
}

const (
	leafLook = time.Second
	// leafPurge is how often what the hub has is removed while there is room:
	// each time costs the rewriting of a file.
	leafPurge = 15 * time.Second
	// leafAnswer bounds what is asked of either end in one look.
	leafAnswer = 3 * time.Second
	// heardPerKeep is how many of the hub's words are remembered.
	heardPerKeep = 300
	// leafGuard is room for what a lane may have on its way, twice over.
	leafGuard = 16 << 20
)

// openLeaf returns nil in client mode.
func openLeaf(ctx context.Context, c *config.Config, p *plan.Plan, control *control, log zerolog.Logger) (*leafUnit, error) {
	if c.NATS.Mode != config.LeafMode {
		return nil, nil
	}
	o := plan.LeafOptions(c, p.Streams)
	o.Log = func(level, line string) {
		e := log.Debug()
		if level == "error" && !saidElsewhere(line) {
			e = log.Error().Str("component", "leaf")
		}
		e.Str("server_level", level).Str("server_says", line).Msg("from the nats-server of the leaf node")
	}
	node, err := leaf.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	u := &leafUnit{
		node: node, config: c.NATS.Leaf, lanes: len(p.Lanes), control: control, streams: p.Streams,
		log: log, open: make(chan struct{}), view: leafView{linkSince: time.Now()},
	}
	u.health = newLeafHealth(log, func() uint64 { return u.view.used })
	if !node.Rebooted() {
		close(u.open)
	}
	return u, nil
}

// saidElsewhere: each attempt to link has its lines, and so has every ten seconds of
// a full store; look says both once.
func saidElsewhere(line string) bool {
	return strings.Contains(strings.ToLower(line), "leafnode") || strings.Contains(line, "resource limits exceeded")
}

// run looks until ctx ends.
func (u *leafUnit) run(ctx context.Context) {
	ticker := time.NewTicker(leafLook)
	defer ticker.Stop()
	for {
		u.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// await returns true when lanes may store, false when ctx ends before. In client
// mode they may.
func (u *leafUnit) await(ctx context.Context) bool {
	if u == nil {
		return true
	}
	select {
	case <-u.open:
		return true
	case <-ctx.Done():
		return false
	}
}

func (u *leafUnit) look(ctx context.Context) {
	u.lookAtLink()
	// Apart from what follows: a hub that is silent must not hold up the limits.
	hub, stop := context.WithTimeout(ctx, leafAnswer)
	u.lookAtHub(hub)
	stop()
	ctx, cancel := context.WithTimeout(ctx, leafAnswer)
	defer cancel()
	if u.node.Rebooted() {
		u.renumber(ctx)
	}
	err := u.prove()
	if err == nil {
		err = u.lookAtStore(ctx)
	}
	if err == nil {
		err = u.keepLimits(ctx)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if errors.Is(err, context.Canceled) {
		return // the bridge stops
	}
	u.health.store.Set(storeError(err))
}

func (u *leafUnit) lookAtLink() {
	up, problem := u.node.Link()
	if !up {
		if err := u.node.Renew(); err != nil {
			problem = err.Error()
		}
	}
	u.mu.Lock()
	changed := up != u.view.link
	if changed {
		u.view.link, u.view.linkSince = up, time.Now()
	}
	news := problem != "" && u.view.linkProblem == ""
	u.view.linkProblem = problem
	u.mu.Unlock()
	switch {
	case changed && up:
		u.log.Info().Str("hub", u.config.URL.String()).Msg("leaf node linked to the hub")
	case changed:
		u.log.Warn().Str("component", "leaf").Str("hub", u.config.URL.String()).Msg("the link to the hub is lost; messages are stored here until it is back")
	case news && !up:
		u.log.Warn().Str("component", "leaf").Str("hub", u.config.URL.String()).Str("problem", problem).Msg("no link to the hub; messages are stored here")
	}
}

// lookAtHub asks how far the hub has stored. What it said last stays true while
// it cannot be asked: it never goes back but by a loss of its own.
func (u *leafUnit) lookAtHub(ctx context.Context) {
	if !u.control.nc.IsConnected() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.view.hubProblem, u.view.unsourced, u.view.given = conn.ErrDisconnected.Error(), "", nil
		return
	}
	positions, given, err := leaf.SourcedUpTo(ctx, u.control.js, u.streams)
	misfit := hubMisfit(u.control.nc, u.config)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.view.hubProblem, u.view.given = "", given
	if err != nil {
		u.view.hubProblem = err.Error()
	}
	now := time.Now()
	u.sourced(err, now)
	if positions == nil {
		return
	}
	u.view.hub = positions
	if n := len(u.heard); n == 0 || now.Sub(u.heard[n-1].at) >= u.config.Keep/heardPerKeep {
		u.heard = append(u.heard, heard{now, positions})
	}
	u.health.fits.Set(misfit)
}

// sourced notes since when the hub does not take what is here. A hub that has just
// started tells of no source at first; where it lasts, a stream was deleted or has
// lost its source, no connection ended because of it, and somebody must look.
func (u *leafUnit) sourced(err error, now time.Time) {
	v := &u.view
	if !errors.Is(err, leaf.ErrUnsourced) {
		v.unsourced = ""
		return
	}
	if v.unsourced == "" {
		v.unsourcedSince, u.asked = now, now
	}
	v.unsourced = err.Error()
	if now.Sub(u.asked) < streamsAgain {
		return
	}
	if u.asked.Equal(v.unsourcedSince) {
		u.log.Error().Str("component", "streams").Str("problem", v.unsourced).Str("advice", unsourcedAdvice).Msg("the hub takes nothing from here")
	}
	u.asked = now
	select {
	case u.control.again <- struct{}{}:
	default:
	}
}

// hubMisfit is what about the hub's server will not do, nil where it will or
// where there is no connection.
func hubMisfit(nc *nats.Conn, c config.Leaf) error {
	const change = "update the hub's nats-server, or raise its max_payload or lower nats.leaf.max_payload"
	version, payload := nc.ConnectedServerVersion(), nc.MaxPayload()
	switch {
	case version == "":
	case !leaf.ReportsSourced(version):
		return advice.With(fmt.Errorf("%w (it is %s)", leaf.ErrHubTooOld, version), change)
	case payload > 0 && payload < int64(c.MaxPayload):
		return advice.With(fmt.Errorf("the hub's max_payload (%d) is below nats.leaf.max_payload (%d): a message in between would end the link again and again", payload, int64(c.MaxPayload)), change)
	}
	return nil
}

// renumber opens the lanes once no sequence can come twice.
func (u *leafUnit) renumber(ctx context.Context) {
	u.mu.Lock()
	hub := u.view.hub
	u.mu.Unlock()
	ask, err := u.node.Renumber(ctx, hub)
	switch {
	case err != nil:
		u.log.Error().Str("component", "leaf").Err(err).Msg("the leaf node's sequences cannot be moved on; trying again")
		return
	case !ask:
		close(u.open)
	}
	u.health.hubKnown.Set(when(ask, errHubUnknown))
}

// prove opens the link once the hub has said that it is not ahead.
func (u *leafUnit) prove() error {
	u.mu.Lock()
	hub := u.view.hub
	u.mu.Unlock()
	return u.node.Prove(hub)
}

func (u *leafUnit) lookAtStore(ctx context.Context) error {
	u.mu.Lock()
	hub := u.view.hub
	u.mu.Unlock()
	backlog, err := u.node.Backlog(ctx, hub)
	if err != nil {
		return err
	}
	used, err := u.node.Used(ctx)
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.view.backlog, u.view.used = backlog, used
	return nil
}

// manageStreams makes or checks the hub's streams. Nothing about them ends the
// bridge: it stores here until then.
func (u *leafUnit) manageStreams(ctx context.Context, mode streams.ManageMode, plan *plan.Plan) {
	// A stream made before the link stands asks for its source in vain, and
	// again only after half a minute.
	u.awaitLink(ctx, 10*time.Second)
	for {
		err := u.control.ensureStreams(ctx, mode, plan)
		if err != nil {
			u.control.streams.Set(err)
		}
		u.health.streams.Set(err)
		if !u.control.awaitLook(ctx, mode, plan) {
			return
		}
	}
}

// streamsAgain is how soon it shows that streams apply has fixed what was wrong.
const streamsAgain = 30 * time.Second

func (u *leafUnit) awaitLink(ctx context.Context, patience time.Duration) {
	timeout := time.After(patience)
	for {
		if up, _ := u.node.Link(); up {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-timeout:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// close ends the node; in client mode there is none.
func (u *leafUnit) close() error {
	if u == nil {
		return nil
	}
	return u.node.Close()
}
