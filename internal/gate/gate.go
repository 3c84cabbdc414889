// Package gate opens EMQX's listener for devices once the bridge can receive their messages. EMQX
// accepts connections before it has loaded the ACL and the rules, and before the bridge has restored
// its sessions. Messages that devices publish in that time are acknowledged and lost. Therefore
// emqx.conf disables the listener at every start of EMQX, and the gate starts it through the API.
package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/emqx"
	"mqtt-nats-bridge/internal/sleep"
)

// ErrNotReady means that devices may not connect yet.
var ErrNotReady = errors.New("not ready for devices")

// interval is the pause between two checks.
const interval = time.Second

// Options configures a gate. EMQX, Listener, Lanes and Ready are required.
type Options struct {
	EMQX *emqx.Client
	// Listener is the id of the devices' listener, such as ssl:default.
	Listener string
	// Lanes are the client ids that must be connected.
	Lanes []string
	// Prefix is the topic prefix that an enabled rule must republish to; empty: no rule is needed.
	Prefix string
	// Ready checks whether the bridge is ready.
	Ready func(context.Context) error
	Log   zerolog.Logger
}

// Run keeps the listener open until ctx ends. After each start of EMQX, it starts the listener as soon
// as the bridge is ready. It never stops the listener: while the bridge or NATS is down, EMQX queues
// the messages of devices.
func Run(ctx context.Context, opts Options) error {
	var last *state
	for ctx.Err() == nil {
		now := state{at: time.Now(), err: Open(ctx, opts)}
		if ctx.Err() == nil && (last == nil || now.worthLogging(last)) {
			last = &now
			report(opts, now.err)
		}
		sleep.For(ctx, interval)
	}
	return nil
}

// state is a result of a check.
type state struct {
	at  time.Time
	err error
}

// worthLogging reports whether to log a state: its kind has changed since the last log line, or the
// error persists and the last line is at least 30 s old.
func (s *state) worthLogging(last *state) bool {
	if (s.err == nil) != (last.err == nil) || errors.Is(s.err, ErrNotReady) != errors.Is(last.err, ErrNotReady) {
		return true
	}
	return s.err != nil && s.at.Sub(last.at) >= 30*time.Second
}

func report(opts Options, err error) {
	log := opts.Log.With().Str("listener", opts.Listener).Logger()
	switch {
	case err == nil:
		log.Info().Msg("listener open")
	case errors.Is(err, ErrNotReady):
		log.Info().Err(err).Msg("listener closed, waiting")
	default:
		log.Warn().Str("component", "broker").Err(err).Msg("EMQX API unavailable, trying again")
	}
}

// Open starts the listener if it is not running and everything is ready for devices. It returns nil if
// the listener is running. If it has to wait, the error wraps ErrNotReady and contains the reason.
func Open(ctx context.Context, opts Options) error {
	listener, err := opts.EMQX.Listener(ctx, opts.Listener)
	if err != nil {
		return err
	}
	if listener.Enabled && listener.Running {
		return nil
	}
	if err := opts.ready(ctx); err != nil {
		return err
	}
	return opts.EMQX.StartListener(ctx, opts.Listener)
}

// ready checks EMQX before the bridge. A bridge that has not noticed yet that EMQX has restarted
// reports that it is ready, although it has no session.
func (o *Options) ready(ctx context.Context) error {
	if o.Prefix != "" {
		rules, err := o.EMQX.Rules(ctx)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(rules, func(r emqx.Rule) bool { return r.RepublishesBelow(o.Prefix) }) {
			return fmt.Errorf("%w: EMQX has no enabled rule that republishes to %s/…", ErrNotReady, o.Prefix)
		}
	}
	sessions, err := o.EMQX.Sessions(ctx, o.Lanes)
	if err != nil {
		return err
	}
	var missing []string
	for _, id := range o.Lanes {
		if !sessions[id].Connected {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %d of %d lanes are not connected to EMQX: %s", ErrNotReady, len(missing), len(o.Lanes), strings.Join(missing, ", "))
	}
	if err := o.Ready(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return nil
}
