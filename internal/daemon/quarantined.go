package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"mqtt-nats-bridge/internal/quarantine"
	"mqtt-nats-bridge/jetstream/conn"
)

// ErrNoQuarantine means that rejected messages are not stored.
var ErrNoQuarantine = errors.New("rejected messages are not stored (quarantine.store: false)")

// Quarantined returns the newest n messages in quarantine, without payload, the newest first. It
// needs the permission for $JS.API.STREAM.MSG.GET.<stream>, like the lanes' look-ups. nats-server
// logs each violation, so after one Quarantined does not try again until the next connection.
func (b *Bridge) Quarantined(ctx context.Context, n int) ([]quarantine.Message, error) {
	c := b.control
	switch {
	case !b.opts.Config.Quarantine.Store:
		return nil, ErrNoQuarantine
	case !c.connected():
		return nil, fmt.Errorf("not available: %w", conn.ErrDisconnected)
	case c.lookups.Err() != nil:
		return nil, errors.New("not available: the NATS user of the bridge may not read messages ($JS.API.STREAM.MSG.GET.<stream>)")
	}
	name := b.opts.Config.Streams.Quarantine.Name
	ctx, stop := c.denied.Guard(ctx, func(p *conn.PermissionError) bool {
		return strings.HasSuffix(p.Subject, ".STREAM.MSG.GET."+name)
	})
	defer stop()
	source := quarantine.Source{Conn: c.nc, API: c.api, Stream: name, Rules: b.plan.Rules}
	messages, err := source.Latest(ctx, n)
	var denied *conn.PermissionError
	if errors.As(context.Cause(ctx), &denied) {
		return nil, denied
	}
	return messages, conn.Disconnected(err)
}
