// Package sessions deletes the broker sessions of removed lanes.
package sessions

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/mqttaccount"
	"mqtt-nats-bridge/mqtt"
)

// Check returns an error if one of the client ids must not be cleared. If it belongs to a lane of this
// configuration, queued messages would be lost.
func Check(c *config.Config, ids []string) error {
	own := c.ClientIDs()
	for _, id := range ids {
		if id == "" {
			return fmt.Errorf("the client id is empty")
		}
		if slices.Contains(own, id) {
			return fmt.Errorf("%s is a lane of this configuration, and its session may contain messages that are not stored yet: remove it from lanes and stop its bridge first (the lanes are %s)", id, strings.Join(own, " "))
		}
	}
	return nil
}

// Clear deletes the sessions one by one and writes a line about each. If one fails, it continues with
// the next, and ok is false.
func Clear(ctx context.Context, c *config.Config, ids []string, out io.Writer) (ok bool, err error) {
	ok = true
	for _, id := range ids {
		existed, err := mqtt.EndSession(ctx, mqttaccount.Options(c.MQTT, id))
		switch {
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		case err != nil:
			ok = false
			fmt.Fprintf(out, "%s: failed: %v\n", id, err)
		case existed:
			fmt.Fprintf(out, "%s: session and its queued messages deleted\n", id)
		default:
			fmt.Fprintf(out, "%s: the broker has no session with this client id\n", id)
		}
	}
	return ok, nil
}
