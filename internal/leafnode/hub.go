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

// Hub is the connection to the hub, with the functions that manage its streams.
type Hub struct {
	Conn      *nats.Conn
	JetStream natsjs.JetStream
	// Ensure creates or checks the streams until it has succeeded once or ctx ends. The error is a
	// contradiction between a stream and the configuration.
	Ensure func(ctx context.Context) error
	// AwaitLook waits until the streams must be checked again. It returns false when ctx ends.
	AwaitLook func(ctx context.Context) bool
	// LookAgain requests another check: AwaitLook returns true.
	LookAgain func()
}

// pollHub reads the hub's positions. While the hub is unreachable, the last positions remain valid:
// they only decrease if the hub loses messages.
func (n *Node) pollHub(ctx context.Context) {
	if !n.hub.Conn.IsConnected() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.view.hubProblem, n.view.unsourced, n.view.upToDate = conn.ErrDisconnected.Error(), "", nil
		return
	}
	positions, upToDate, err := leaf.SourcedUpTo(ctx, n.hub.JetStream, n.streams)
	problem := incompatible(n.hub.Conn, n.config)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.view.hubProblem, n.view.upToDate = "", upToDate
	if err != nil {
		n.view.hubProblem = err.Error()
	}
	now := time.Now()
	n.checkSourced(err, now)
	if positions == nil {
		return
	}
	n.view.hub = positions
	if last := len(n.hubAcks) - 1; last < 0 || now.Sub(n.hubAcks[last].at) >= n.config.Keep/acksPerKeep {
		n.hubAcks = append(n.hubAcks, hubAcks{now, positions})
	}
	n.health.incompatible.Set(problem)
}

// checkSourced records since when the hub has not sourced a local stream. A hub that has just started
// reports no source at first. If this lasts, a stream was deleted or has lost its source. That closes
// no connection, so checkSourced requests another check of the streams.
func (n *Node) checkSourced(err error, now time.Time) {
	v := &n.view
	if !errors.Is(err, leaf.ErrUnsourced) {
		v.unsourced = ""
		return
	}
	if v.unsourced == "" {
		v.unsourcedSince, n.recheckedAt = now, now
	}
	v.unsourced = err.Error()
	if now.Sub(n.recheckedAt) < unsourcedFor {
		return
	}
	if n.recheckedAt.Equal(v.unsourcedSince) {
		n.log.Error().Str("component", "streams").Str("problem", v.unsourced).Str("advice", unsourcedAdvice).Msg("hub does not source from this bridge")
	}
	n.recheckedAt = now
	n.hub.LookAgain()
}

// incompatible returns the reason why the hub's server cannot be used. It returns nil if the server is
// compatible or not connected.
func incompatible(nc *nats.Conn, c config.Leaf) error {
	version, payload := nc.ConnectedServerVersion(), nc.MaxPayload()
	switch {
	case version == "":
	case !leaf.ReportsSourced(version):
		return advice.With(fmt.Errorf("%w (it is %s)", leaf.ErrHubTooOld, version), "update the hub's nats-server")
	case payload > 0 && payload < int64(c.MaxPayload):
		return advice.With(fmt.Errorf("the hub's max_payload (%d) is below nats.leaf.max_payload (%d): the hub would close the link each time it received a larger message", payload, int64(c.MaxPayload)),
			"raise the hub's max_payload, or lower nats.leaf.max_payload")
	}
	return nil
}

// manageStreams creates or checks the hub's streams until ctx ends. An error does not stop the bridge,
// which stores messages locally until the streams are correct.
func (n *Node) manageStreams(ctx context.Context) {
	// If a stream is created before the link is up, its first attempt to source fails, and the next
	// one follows only after half a minute.
	n.awaitLink(ctx, 10*time.Second)
	for {
		n.health.streams.Set(n.hub.Ensure(ctx))
		if !n.hub.AwaitLook(ctx) {
			return
		}
	}
}

// unsourcedFor is the time without sourcing after which a problem is reported.
const unsourcedFor = 30 * time.Second

func (n *Node) awaitLink(ctx context.Context, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	up, _ := n.node.Link()
	for !up && sleep.For(ctx, 100*time.Millisecond) {
		up, _ = n.node.Link()
	}
}
