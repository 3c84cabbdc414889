package check

import (
	"context"
	"os"
	"time"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/internal/sleep"
	"mqtt-nats-bridge/jetstream/leaf"
)

// hub checks that the hub meets the requirements of a leaf node.
func (n *natsCheck) hub() {
	version := n.nc.ConnectedServerVersion()
	if leaf.ReportsSourced(version) {
		n.report.OK("hub", "nats-server %s reports its sourcing progress", version)
	} else {
		n.report.Fail("hub", "%v (it is %s): without that, stored messages can never be removed from the local store; update the hub", leaf.ErrHubTooOld, version)
	}
	leaf, hub := int64(n.config.NATS.Leaf.MaxPayload), n.nc.MaxPayload()
	if hub < leaf {
		n.report.Fail("hub max_payload", "the hub accepts %s, but nats.leaf.max_payload is %s, and a larger message would end the link repeatedly: lower nats.leaf.max_payload, or raise max_payload at the hub", size(hub), size(leaf))
	}
	if want := int64(n.config.Limits.Payload) + headerAllowance; leaf < want {
		n.report.Note("leaf max_payload", "nats.leaf.max_payload is %s, limits.payload and headers need up to %s: larger messages are quarantined as refused", size(leaf), size(want))
	}
}

// link briefly connects to the hub as a leaf node without streams. It uses a separate domain,
// because the bridge's domain may be in use.
func link(ctx context.Context, c *config.Config, r *Report) {
	dir, err := os.MkdirTemp("", "mqtt-nats-bridge-check-")
	if err != nil {
		r.Fail("leaf link", "%v: make the directory for temporary files writable", err)
		return
	}
	defer os.RemoveAll(dir)
	o := plan.LeafOptions(c, nil)
	o.Domain, o.StoreDir = c.NATS.Leaf.Domain+"-check", dir
	node, err := leaf.Open(ctx, o)
	if err != nil {
		r.Fail("leaf link", "%v: fix the files or settings under nats in the configuration", err)
		return
	}
	defer node.Close()
	bounded, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	for {
		up, problem := node.Link()
		switch {
		case up:
			r.OK("leaf link", "the hub accepts a leaf node at %s", c.NATS.Leaf.URL)
			return
		case bounded.Err() != nil:
			if problem == "" {
				problem = "no answer within " + answerTimeout.String()
			}
			r.Fail("leaf link", "%s does not accept a leaf node: %s: make sure that the hub has a leafnodes block that listens there and accepts the credentials of nats", c.NATS.Leaf.URL, problem)
			return
		}
		sleep.For(bounded, 20*time.Millisecond)
	}
}
