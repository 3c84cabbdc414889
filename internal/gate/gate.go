// Package gate opens EMQX's listener for devices once the bridge takes what they
// publish. EMQX accepts connections before it has loaded ACL and rules, and before the
// bridge has its sessions back; what devices publish then is acknowledged and lost. So
// the listener is disabled in emqx.conf, which applies at every start of EMQX, and is
// started through the API.
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
)

// ErrNotReady means that devices may not connect yet.
var ErrNotReady = errors.New("not ready for devices")

// interval is how often the gate looks; what is too early waits at most so long.
const interval = time.Second

// Options of a gate. EMQX, Listener, Lanes and Ready are required.
type Options struct {
	EMQX *emqx.Client
	// Listener is the devices' listener: ssl:default.
	Listener string
	// Lanes are the client ids that must be connected.
	Lanes []string
	// Prefix is where a rule must republish to; empty: none.
	Prefix string
	// Ready asks the bridge whether it is ready.
	Ready func(context.Context) error
	Log   zerolog.Logger
}

// Run keeps the listener open until ctx ends: after each start of EMQX it starts the
// listener again as soon as the bridge is ready. It never stops it: what devices publish
// while the bridge or NATS is down waits in EMQX's queues.
func Run(ctx context.Context, opts Options) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var last *state
	for {
		now := state{at: time.Now(), err: Open(ctx, opts)}
		if ctx.Err() != nil {
			return nil
		}
		if last == nil || now.news(last) {
			last = &now
			report(opts, now.err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// state is what the gate logged last.
type state struct {
	at  time.Time
	err error
}

// news reports whether a state is worth a line: it is of another kind, or what is wrong
// has been wrong for half a minute since the last line.
func (s *state) news(last *state) bool {
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

// Open starts the listener where it is not running and everything is ready for devices.
// It returns nil while the listener runs, and ErrNotReady with the reason where it has to
// wait.
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

// ready asks EMQX before the bridge: a bridge that has not noticed yet that EMQX was
// restarted says that it is ready, and has no session there.
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
