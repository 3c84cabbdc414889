// Package sessions ends MQTT sessions that no lane will come back for.
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

// Check returns an error where one of the client ids is not to be cleared: what a
// lane of this very configuration has waiting would be lost.
func Check(c *config.Config, ids []string) error {
	own := c.ClientIDs()
	for _, id := range ids {
		if id == "" {
			return fmt.Errorf("an empty client id names no session")
		}
		if slices.Contains(own, id) {
			return fmt.Errorf("%s is a lane of this configuration, and its session contains messages that are to be stored: take it out of lanes first, then stop that bridge (the lanes are %s)", id, strings.Join(own, " "))
		}
	}
	return nil
}

// Clear ends the sessions one after the other and writes a line about each. It goes
// on where one fails; ok is then false.
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
			fmt.Fprintf(out, "%s: session ended, what it still contained is gone\n", id)
		default:
			fmt.Fprintf(out, "%s: the broker had no session under this client id\n", id)
		}
	}
	return ok, nil
}
