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

// control is the connection that looks after the streams; messages have their
// own, one per lane. It also logs NATS problems once for all lanes.
type control struct {
	nc  *nats.Conn
	js  natsjs.JetStream
	log zerolog.Logger

	connection *health.Condition
	streams    *health.Condition // have been checked
	reconciler *streams.Reconciler
	lookups    *health.Condition // the streams may be asked

	mu          sync.Mutex
	window      atomic.Int64  // the streams' shortest duplicate window, ns; 0: not known
	api         string        // of JetStream
	lookTimeout time.Duration // of one look
	notes       []string      // of the latest look, each in the log
	// unmanaged is what the latest look that could read externally managed streams found.
	unmanaged []Problem
	unread    *health.Condition // they could be read
	refusedOn uint64            // the number of the connection that may not read them; 0: none
	said      warningLog        // both, of the looks alone
	lanes     *lanelog.Connections
	// looked reports that the streams have been read once, or that this took too long to wait for. Before
	// that they may be in the midst of being created: of several messages sent then, the first
	// are refused and later ones stored.
	looked atomic.Bool
	denied conn.Violations // of requests about the streams
}

// openControl begins to connect. gaveUp is called where that ends for good.
func openControl(o conn.Options, gaveUp func(error), log zerolog.Logger) (*control, error) {
	c := &control{
		log: log, connection: account.NewConnection(log),
		streams: health.New(health.Options{
			Component: "streams", Log: log, Failed: "streams not ready", Initial: errors.New("the streams have not been checked yet"),
		}),
		lookups: health.New(health.Options{Component: "streams", Log: log, Failed: "lookups not permitted", Warn: true}),
		unread:  health.New(health.Options{Component: "streams", Log: log}),
		lanes:   lanelog.NewConnections(log), said: warningLog{log: log},
	}
	o.InitialConnectTimeout = firstWait
	o.Hooks = account.Hooks(c.connection, log, c.lanes.ControlIs)
	o.Hooks.Closed = gaveUp
	failed := o.Hooks.Error
	o.Hooks.Error = func(nc *nats.Conn, err error) {
		c.lookupError(err)
		if !c.denied.Note(err) { // else the streams are not ready, and say so
			failed(nc, err)
		}
	}
	nc, err := conn.Connect(o)
	if err != nil {
		return nil, err
	}
	c.nc = nc
	if c.api, err = o.API(); err != nil {
		nc.Close()
		return nil, err
	}
	c.js, err = o.JetStream(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// connected is what the connection last told. To ask it would be to wait for an attempt
// that is in progress.
func (c *control) connected() bool { return c.connection.Err() == nil }

// problems lists what keeps the NATS side from being ready. Without a connection the state of the
// streams is unknown.
func (c *control) problems() []Problem {
	if all := c.connection.Problems(); all != nil {
		return all
	}
	return c.streams.Problems()
}
