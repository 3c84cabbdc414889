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
	"mqtt-nats-bridge/internal/endpoint"
	"mqtt-nats-bridge/internal/pki"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/embedded"
)

const (
	// maxPayload is the demo's limits.payload. It is small, so that larger payloads are still
	// readable in `stream view`.
	maxPayload = 4 << 10
	// readyTimeout bounds the wait until all lanes are subscribed.
	readyTimeout = 15 * time.Second
)

// rig contains all parts except the devices: both servers, the bridge between them, and the files
// that the user needs for mosquitto_pub.
type rig struct {
	dir       string
	authority *pki.Authority
	files     visitorFiles
	broker    *broker.Broker
	server    *embedded.Server
	bridge    *daemon.Bridge
	// stopBridge is bounded by stop_timeout. Further calls return the same result.
	stopBridge func() error
	admin      string     // address of the bridge's HTTP endpoint; empty: none
	nc         *nats.Conn // the demo's own connection
	js         natsjs.JetStream
	database   *database // nil: none
	password   string    // the bridge's password for the broker

	streams []string      // by name, quarantine last
	visits  atomic.Uint64 // messages that the broker attested for the visitor

	cleanups []func() error // run last in, first out
}

// visitorFiles are file names within the rig's directory.
type visitorFiles struct{ ca, cert, key string }

// newRig starts the servers and the bridge, and waits until the bridge is ready. Messages published
// before the bridge has subscribed would be lost. On an error, newRig stops what it has started.
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

func (r *rig) onClose(f func() error) { r.cleanups = append(r.cleanups, f) }

// close runs the clean-ups in reverse order.
func (r *rig) close() error {
	var errs []error
	for len(r.cleanups) > 0 {
		last := len(r.cleanups) - 1
		errs = append(errs, r.cleanups[last]())
		r.cleanups = r.cleanups[:last]
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
		// EMQX's rule would withhold messages without a CN. The demo shows the bridge's own
		// check.
		AnyCN:  true,
		Tamper: r.countVisit,
	})
	if err != nil {
		return fmt.Errorf("start MQTT broker: %w", err)
	}
	r.broker = b
	r.onClose(b.Close)
	return nil
}

// countVisit counts the visitor's messages. It does not change the attestation.
func (r *rig) countVisit(a *broker.Attestation) {
	if a.CN == fmt.Sprintf("%X", visitor) {
		r.visits.Add(1)
	}
}

func (r *rig) startServer(log zerolog.Logger) error {
	store := filepath.Join(r.dir, "jetstream")
	server, err := embedded.Open(embedded.Options{
		StoreDir: store, Port: -1, ServerName: "demo",
		Log: func(level, line string) {
			// Other levels are of no interest to a user of the demo.
			if level == "error" {
				log.Error().Str("component", "nats").Str("line", line).Msg("nats-server reports an error")
			}
		},
	})
	if err != nil {
		return err
	}
	r.server = server
	r.onClose(func() error { server.Close(); return nil })
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
	r.onClose(r.stopBridge)
	return nil
}

func (r *rig) startAdmin(log zerolog.Logger) error {
	server, err := endpoint.Open("127.0.0.1:0", admin.Program(r.bridge), log)
	if err != nil {
		return err
	}
	r.admin = server.Addr()
	r.onClose(func() error { server.Close(); return nil })
	return nil
}

// settings returns the settings that differ from the bridge's defaults: the addresses and two limits.
// The environment is not read, so that BRIDGE_ variables do not change the demo.
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
	r.onClose(func() error { r.nc.Close(); return nil })
	r.js, err = natsjs.New(r.nc)
	return err
}

// awaitReady waits until the bridge reports no problems.
func (r *rig) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
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
		// The last sequence is used instead of the number of messages, because a demo that runs for
		// hours reaches the quarantine's limit per subject.
		all = append(all, streamCount{Stream: name, Messages: stream.CachedInfo().State.LastSeq})
	}
	return all, nil
}
