package leafnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/sleep"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/leaf"
)

// Hub is the connection to the hub and the care of its streams.
type Hub struct {
	Conn      *nats.Conn
	JetStream natsjs.JetStream
	// Ensure creates or checks the streams until that has worked once or ctx ends. The
	// error is a contradiction.
	Ensure func(ctx context.Context) error
	// AwaitLook returns true when the streams must be looked at, and false when ctx ends.
	AwaitLook func(ctx context.Context) bool
	// LookAgain makes AwaitLook return true.
	LookAgain func()
}

// lookAtHub asks how far the hub has stored. What it said last stays true while
// it cannot be asked: it never goes back but by a loss of its own.
func (n *Node) lookAtHub(ctx context.Context) {
	if !n.hub.Conn.IsConnected() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.view.hubProblem, n.view.unsourced, n.view.given = conn.ErrDisconnected.Error(), "", nil
		return
	}
	positions, given, err := leaf.SourcedUpTo(ctx, n.hub.JetStream, n.streams)
	problem := incompatible(n.hub.Conn, n.config)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.view.hubProblem, n.view.given = "", given
	if err != nil {
		n.view.hubProblem = err.Error()
	}
	now := time.Now()
	n.sourced(err, now)
	if positions == nil {
		return
	}
	n.view.hub = positions
	if last := len(n.hubAcks) - 1; last < 0 || now.Sub(n.hubAcks[last].at) >= n.config.Keep/acksPerKeep {
		n.hubAcks = append(n.hubAcks, hubAcks{now, positions})
	}
	n.health.fits.Set(problem)
}

// sourced notes since when the hub does not take what is here. A hub that has just
// started reports no source at first; where it lasts, a stream was deleted or has
// lost its source, no connection ended because of it, and somebody must look.
func (n *Node) sourced(err error, now time.Time) {
	v := &n.view
	if !errors.Is(err, leaf.ErrUnsourced) {
		v.unsourced = ""
		return
	}
	if v.unsourced == "" {
		v.unsourcedSince, n.asked = now, now
	}
	v.unsourced = err.Error()
	if now.Sub(n.asked) < unsourcedFor {
		return
	}
	if n.asked.Equal(v.unsourcedSince) {
		n.log.Error().Str("component", "streams").Str("problem", v.unsourced).Str("advice", unsourcedAdvice).Msg("the hub takes nothing from here")
	}
	n.asked = now
	n.hub.LookAgain()
}

// incompatible returns why the hub's server cannot be used; nil: it can, or there is no
// connection.
func incompatible(nc *nats.Conn, c config.Leaf) error {
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

// manageStreams creates or checks the hub's streams until ctx ends. No error of theirs ends
// the bridge: it stores locally until they are right.
func (n *Node) manageStreams(ctx context.Context) {
	// A stream that is created before the link is up asks for its source in vain, and
	// again only after half a minute.
	n.awaitLink(ctx, 10*time.Second)
	for {
		n.health.streams.Set(n.hub.Ensure(ctx))
		if !n.hub.AwaitLook(ctx) {
			return
		}
	}
}

// unsourcedFor is how long the hub may not source a stream before that is a problem.
const unsourcedFor = 30 * time.Second

func (n *Node) awaitLink(ctx context.Context, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	up, _ := n.node.Link()
	for !up && sleep.For(ctx, 100*time.Millisecond) {
		up, _ = n.node.Link()
	}
}
