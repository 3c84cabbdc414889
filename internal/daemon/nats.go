package daemon

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/account"
	"mqtt-nats-bridge/internal/health"
	"mqtt-nats-bridge/internal/lanelog"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/streams"
)

// control is the connection that manages the streams; each lane has its own connection for
// messages. control also logs NATS problems once for all lanes.
type control struct {
	nc  *nats.Conn
	js  natsjs.JetStream
	log zerolog.Logger

	connection *health.Condition
	streams    *health.Condition // the streams have been checked
	lookups    *health.Condition // look-ups are permitted
	unread     *health.Condition // externally managed streams could be read
	lanes      *lanelog.Connections
	denied     conn.Violations // violations of requests about the streams

	api         string        // subject prefix of the JetStream API
	lookTimeout time.Duration // of one check of the streams
	reconciler  *streams.Reconciler

	// Used only by the reconciler's goroutine; no lock.
	notes     []string   // of the latest check, already logged
	refusedOn uint64     // number of the connection without the permission to read the streams; 0: none
	logged    warningLog // problems and warnings logged by the checks only

	window atomic.Int64 // shortest duplicate window of the streams, ns; 0: unknown
	// looked reports whether the streams have been read once, or the wait for that has timed out.
	// Before that the streams may be in creation: JetStream could refuse earlier messages and store
	// later ones.
	looked atomic.Bool

	mu sync.Mutex // of unmanaged
	// unmanaged contains the findings of the latest successful check of externally managed streams.
	unmanaged []Problem
}

// openControl begins to connect. gaveUp is called when the connection is closed permanently.
func openControl(o conn.Options, gaveUp func(error), log zerolog.Logger) (*control, error) {
	c := &control{
		log: log, connection: account.NewConnection(log),
		streams: health.New(health.Options{
			Component: "streams", Log: log, Failed: "streams not ready", Initial: errors.New("the streams have not been checked yet"),
		}),
		lookups: health.New(health.Options{Component: "streams", Log: log, Failed: "lookups not permitted", Warn: true}),
		unread:  health.New(health.Options{Component: "streams", Log: log}),
		lanes:   lanelog.NewConnections(log), logged: warningLog{log: log},
	}
	o.InitialConnectTimeout = firstWait
	o.Hooks = account.Hooks(c.connection, log, c.lanes.ControlIs)
	o.Hooks.Closed = gaveUp
	failed := o.Hooks.Error
	o.Hooks.Error = func(nc *nats.Conn, err error) {
		c.lookupError(err)
		if !c.denied.Note(err) { // a noted violation is reported by the streams
			failed(nc, err)
		}
	}
	nc, err := conn.Connect(o)
	if err != nil {
		return nil, err
	}
	c.nc = nc
	if c.api, err = o.API(); err == nil {
		c.js, err = o.JetStream(nc)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// connected returns the last reported state of the connection. Asking the connection itself would
// wait for an attempt in progress.
func (c *control) connected() bool { return c.connection.Err() == nil }

// problems lists the problems that keep the NATS side from being ready. Without a connection the
// state of the streams is unknown.
func (c *control) problems() []Problem {
	if all := c.connection.Problems(); all != nil {
		return all
	}
	return c.streams.Problems()
}
