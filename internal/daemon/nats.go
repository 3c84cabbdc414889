package daemon

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/account"
	"mqtt-nats-bridge/jetstream/conn"
)

// control is the connection that looks after the streams; messages have their
// own, one a lane. It also speaks for NATS in the log: all lanes would say the
// same.
type control struct {
	nc  *nats.Conn
	js  natsjs.JetStream
	log zerolog.Logger

	mu       sync.Mutex
	problem  string // empty: connected
	advice   string
	since    time.Time
	streams  string // what is wrong with the streams; empty: nothing
	remedy   string // the advice about streams
	checked  bool
	checking time.Time
	lookups  Problem       // why the streams may not be asked; zero: they may
	window   atomic.Int64  // the streams' shortest duplicate window, ns; 0: not known
	api      string        // of JetStream
	again    chan struct{} // holds a token when the streams want another look
	every    time.Duration // between looks at the streams
	notes    []string      // of the latest look, each in the log
	// unmanaged is what the latest look at externally managed streams found.
	unmanaged []Problem
	said      warningLog // unmanaged, of the looks alone
	// unreadable: the user may not read them; asked again after a reconnect, not to fill
	// the server's log.
	unreadable bool
	lanes      *laneConnections
	// looked: the streams have been looked at once, or that takes too long to wait for. Before
	// that they may be in the midst of being created: of several messages sent then, the first
	// are refused and later ones stored.
	looked atomic.Bool
	denied conn.Violations // of requests about the streams
	// refused has the questions about consumers that the user may not ask, and when it was told.
	refused sync.Map
}

// openControl begins to connect. gaveUp is called where that ends for good.
func openControl(o conn.Options, gaveUp func(error), log zerolog.Logger) (*control, error) {
	c := &control{
		log: log, problem: "not connected yet", since: time.Now(), checking: time.Now(),
		again: make(chan struct{}, 1), lanes: newLaneConnections(log), said: warningLog{log: log},
	}
	o.InitialConnectTimeout = firstWait
	o.Hooks = conn.Hooks{
		Closed: gaveUp,
		Connected: func(nc *nats.Conn) {
			c.set("", "")
			log.Info().Str("server", nc.ConnectedUrlRedacted()).Str("server_name", nc.ConnectedServerName()).Msg("nats connected")
		},
		Disconnected: func(_ *nats.Conn, err error) {
			if err == nil {
				return // closed from here
			}
			c.set("connection lost: "+err.Error(), "")
			log.Warn().Str("component", "nats").AnErr("problem", err).Msg("nats connection lost")
		},
		Reconnected: func(nc *nats.Conn) {
			c.set("", "")
			log.Info().Str("server", nc.ConnectedUrlRedacted()).Msg("nats connected again")
			select {
			case c.again <- struct{}{}:
			default:
			}
		},
		ConnectFailed: func(p conn.Problem) {
			advice := account.Advice(p)
			c.set(p.Error(), advice)
			log.Error().Str("component", "nats").Str("kind", p.Kind.String()).Str("cause", p.Cause.String()).
				Str("problem", p.Error()).Str("advice", advice).Msg("nats not connected")
		},
		Error: func(_ *nats.Conn, err error) {
			c.lookupError(err)
			if c.denied.Note(err) {
				return // the streams are not ready, and say so
			}
			log.Error().Str("component", "nats").AnErr("problem", err).Str("advice", account.Advice(err)).Msg("nats reports an error")
		},
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

func (c *control) set(problem, advice string) {
	c.lanes.controlIs(problem == "")
	c.mu.Lock()
	defer c.mu.Unlock()
	if (problem == "") != (c.problem == "") {
		c.since = time.Now()
	}
	c.problem, c.advice = problem, advice
}

// connected is what the connection last told. To ask it would be to wait for an attempt
// that is in progress.
func (c *control) connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.problem == ""
}

// problems lists what keeps the NATS side from being ready.
func (c *control) problems() []Problem {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []Problem
	if c.problem != "" {
		all = append(all, Problem{Component: "nats", Problem: c.problem, Advice: c.advice, Since: c.since})
	}
	// Without a connection there is no word on the streams.
	if !c.checked && c.problem == "" {
		problem := c.streams
		if problem == "" {
			problem = "the streams have not been checked yet"
		}
		all = append(all, Problem{Component: "streams", Problem: problem, Advice: c.remedy, Since: c.checking})
	}
	return all
}
