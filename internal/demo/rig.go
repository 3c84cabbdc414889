package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/admin"
	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/pki"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/embedded"
)

const (
	// maxPayload is the demo's limits.payload: small, so that what is over it
	// still looks small in `stream view`.
	maxPayload = 4 << 10
	// ready is how long the bridge may take until all lanes are subscribed.
	ready = 15 * time.Second
)

// rig is everything but the devices: both servers, the bridge between them, and
// the files that a visitor needs.
type rig struct {
	dir       string
	authority *pki.Authority
	files     visitorFiles
	broker    *broker.Broker
	server    *embedded.Server
	bridge    *daemon.Bridge
	// stopBridge is bounded by stop_timeout; further calls give the same answer.
	stopBridge func() error
	admin      string     // address of the bridge's endpoint for operators; empty: none
	nc         *nats.Conn // the demo's own eyes
	js         natsjs.JetStream
	database   *database // nil: none
	password   string    // of the bridge at the broker

	streams []string      // by name, quarantine last
	visits  atomic.Uint64 // messages that the broker attested for the visitor

	undo []func() error // last in, first out
}

// visitorFiles are names within the rig's directory.
type visitorFiles struct{ ca, cert, key string }

// newRig starts the servers and the bridge, and returns when the bridge is ready:
// what nobody has subscribed to is lost. Where it fails, nothing is left behind.
func newRig(ctx context.Context, o Options, dir string, log zerolog.Logger) (_ *rig, err error) {
	r := &rig{dir: dir, password: rand.Text()}
	defer func() {
		if err != nil {
			_ = r.close()
		}
	}()
	for _, step := range []func() error{
		r.openPKI, r.startBroker,
		func() error { return r.startServer(log) },
		func() error { return r.startBridge(ctx, o, log) },
		func() error { return r.startAdmin(log) },
		r.connect,
		func() error { return r.startIngest(ctx, o, log) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return r, r.awaitReady(ctx)
}

func (r *rig) defers(f func() error) { r.undo = append(r.undo, f) }

// close stops what was started, the latest first.
func (r *rig) close() error {
	var errs []error
	for len(r.undo) > 0 {
		last := len(r.undo) - 1
		errs = append(errs, r.undo[last]())
		r.undo = r.undo[:last]
	}
	return errors.Join(errs...)
}

func (r *rig) openPKI() error {
	authority, err := pki.New()
	if err != nil {
		return err
	}
	r.authority = authority
	ca, err := authority.WriteCA(r.dir)
	if err != nil {
		return err
	}
	certificate, err := authority.Device(visitor)
	if err != nil {
		return err
	}
	_, name, _ := strings.Cut(visitor, "/")
	files, err := pki.Write(r.dir, name, certificate)
	if err != nil {
		return err
	}
	r.files = visitorFiles{ca: filepath.Base(ca), cert: filepath.Base(files.Cert), key: filepath.Base(files.Key)}
	return nil
}

func (r *rig) startBroker() error {
	devices, err := r.authority.ServerConfig()
	if err != nil {
		return err
	}
	b, err := broker.Open(broker.Options{
		TLS: devices, Username: "bridge", Password: r.password, Attest: true,
		// EMQX's rule would keep a certificate without a CN back; here the
		// bridge's own check is to be seen.
		AnyCN:  true,
		Tamper: r.noteVisit,
	})
	if err != nil {
		return fmt.Errorf("start MQTT broker: %w", err)
	}
	r.broker = b
	r.defers(b.Close)
	return nil
}

// noteVisit counts the visitor's messages; it changes nothing.
func (r *rig) noteVisit(a *broker.Attestation) {
	if a.CN == fmt.Sprintf("%X", visitor) {
		r.visits.Add(1)
	}
}

func (r *rig) startServer(log zerolog.Logger) error {
	store := filepath.Join(r.dir, "jetstream")
	server, err := embedded.Open(embedded.Options{
		StoreDir: store, Port: -1, ServerName: "demo",
		Log: func(level, line string) {
			// Of the rest nothing concerns an onlooker.
			if level == "error" {
				log.Error().Str("component", "nats").Str("line", line).Msg("nats-server reports an error")
			}
		},
	})
	if err != nil {
		return err
	}
	r.server = server
	r.defers(func() error { server.Close(); return nil })
	return nil
}

func (r *rig) startBridge(ctx context.Context, o Options, log zerolog.Logger) error {
	c, err := config.Load(config.Sources{Flags: r.settings(o)})
	if err != nil {
		return fmt.Errorf("configure bridge: %w", err)
	}
	plan, err := plan.Compile(c)
	if err != nil {
		return fmt.Errorf("configure bridge: %w", err)
	}
	for _, s := range plan.Streams {
		r.streams = append(r.streams, s.Name)
	}
	r.bridge, err = daemon.Open(ctx, daemon.Options{Config: c, Log: log, Version: o.Version})
	if err != nil {
		return fmt.Errorf("start bridge: %w", err)
	}
	r.stopBridge = sync.OnceValue(func() error { return r.bridge.Close(context.Background()) })
	r.defers(r.stopBridge)
	return nil
}

func (r *rig) startAdmin(log zerolog.Logger) error {
	server, err := admin.Open("127.0.0.1:0", r.bridge, log)
	if err != nil {
		return err
	}
	r.admin = server.Addr()
	r.defers(func() error { server.Close(); return nil })
	return nil
}

// settings are the bridge's defaults but for the addresses and two limits. The
// environment is left out: nobody's BRIDGE_ variables change the demo.
func (r *rig) settings(o Options) []config.Flag {
	limit := o.limit()
	return []config.Flag{
		{Path: "mqtt.url", Value: r.broker.URL()},
		{Path: "mqtt.username", Value: "bridge"},
		{Path: "mqtt.password", Value: r.password},
		{Path: "nats.url", Value: r.server.URL()},
		{Path: "limits.payload", Value: strconv.Itoa(maxPayload)},
		{Path: "limits.device.rate", Value: strconv.FormatFloat(limit, 'f', -1, 64)},
		{Path: "limits.device.burst", Value: strconv.Itoa(int(2 * limit))},
	}
}

func (r *rig) connect() (err error) {
	r.nc, err = conn.Connect(conn.Options{URL: r.server.URL(), Name: "demo"})
	if err != nil {
		return fmt.Errorf("connect to nats-server: %w", err)
	}
	r.defers(func() error { r.nc.Close(); return nil })
	r.js, err = natsjs.New(r.nc)
	return err
}

// awaitReady waits for the bridge to have nothing to complain about.
func (r *rig) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, ready)
	defer cancel()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		problems := r.bridge.Problems()
		if len(problems) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the bridge to be ready: %w: %s: %s", ctx.Err(), problems[0].Component, problems[0].Problem)
		case err := <-r.bridge.Failed():
			return fmt.Errorf("start bridge: %w", err)
		case <-poll.C:
		}
	}
}

// streamCounts asks nats-server how many messages each stream has stored.
func (r *rig) streamCounts(ctx context.Context) ([]streamCount, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var all []streamCount
	for _, name := range r.streams {
		stream, err := r.js.Stream(ctx, name) // fetches the state too
		if err != nil {
			return nil, fmt.Errorf("ask for stream %s: %w", name, err)
		}
		// The last sequence, not the number of messages: a demo that runs for
		// hours meets the quarantine's limit for each subject.
		all = append(all, streamCount{Stream: name, Messages: stream.CachedInfo().State.LastSeq})
	}
	return all, nil
}
