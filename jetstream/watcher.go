package jetstream

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// watcher turns nats.go's callbacks into [ConnectHooks].
//
// nats.go reports a failed attempt in three ways (read in 1.55.0): a dial error
// through ReconnectErrCB; a refused CONNECT through AsyncErrorCB, but only once a
// connection has stood before; a failed TLS handshake, or a refused CONNECT
// before the first connection, through LastError alone, until the next attempt
// overwrites it. The last is why delay looks at LastError: it is called between
// attempts, outside nats.go's lock. With several servers of which one refuses
// and the next cannot be dialled, only the second may be seen.
type watcher struct {
	options ConnectOptions
	dialer  rememberingDialer
	// conn is nil until nats.go handed the connection to a callback or Connect
	// returned it.
	conn atomic.Pointer[nats.Conn]

	tried chan struct{} // closed when the first attempt has ended
	first sync.Once

	mu   sync.Mutex
	last string // the problem reported last; empty while connected
}

func newWatcher(o ConnectOptions) *watcher {
	w := &watcher{options: o, tried: make(chan struct{}), dialer: rememberingDialer{timeout: o.ConnectTimeout}}
	w.dialer.later.Store(o.FirstWait > 0)
	return w
}

// rememberingDialer keeps why the last dial failed: nats.go drops a "connection
// refused" and says "no servers available for connection" (1.55.0,
// Conn.connect). It goes unused where another dialer is among the options.
type rememberingDialer struct {
	timeout time.Duration
	failed  atomic.Pointer[error] // nil: the last dial succeeded, or there was none
	later   atomic.Bool           // until all servers were tried once, which is in the background
}

// errLater fails a first attempt, which nats.Connect makes before it returns.
var errLater = errors.New("not tried yet")

// Dial implements nats.CustomDialer.
func (d *rememberingDialer) Dial(network, address string) (net.Conn, error) {
	if d.later.Load() {
		return nil, errLater
	}
	conn, err := dial(network, address, d.timeout)
	if err != nil {
		d.failed.Store(&err)
		return nil, err
	}
	d.failed.Store(nil)
	return &answerConn{failFastConn: failFastConn{conn}, sink: noAnswers}, nil
}

// noAnswers: nothing is taken off this connection.
func noAnswers() *answerSink { return nil }

// cause is err, or what is behind nats.go's word that no server is available.
func (w *watcher) cause(err error) error {
	if dial := w.dialer.failed.Load(); dial != nil && errors.Is(err, nats.ErrNoServers) {
		return *dial
	}
	return err
}

func (w *watcher) delay(round int) time.Duration {
	if w.dialer.later.Swap(false) {
		return 0
	}
	if nc := w.conn.Load(); nc != nil {
		if err := nc.LastError(); err != nil {
			w.failed(err)
		}
	}
	return w.options.backOff(round)
}

func (w *watcher) failed(err error) {
	if errors.Is(err, errLater) {
		return
	}
	w.first.Do(func() { close(w.tried) })
	hook := w.options.Hooks.ConnectFailed
	if hook == nil {
		return
	}
	problem := ClassifyConnectError(w.cause(err), w.options.URL)
	// Per kind: the error's text alternates between servers of a cluster.
	key := problem.Kind.String()
	w.mu.Lock()
	repeated := w.last == key
	w.last = key
	w.mu.Unlock()
	if !repeated {
		hook(problem)
	}
}

func (w *watcher) up(nc *nats.Conn) {
	w.conn.Store(nc)
	w.first.Do(func() { close(w.tried) })
	w.mu.Lock()
	w.last = ""
	w.mu.Unlock()
}

func (w *watcher) connected(nc *nats.Conn) {
	w.up(nc)
	if hook := w.options.Hooks.Connected; hook != nil {
		hook(nc)
	}
}

func (w *watcher) reconnected(nc *nats.Conn) {
	w.up(nc)
	if hook := w.options.Hooks.Reconnected; hook != nil {
		hook(nc)
	}
}

func (w *watcher) attemptFailed(nc *nats.Conn, err error) {
	w.conn.Store(nc)
	w.failed(err)
}

func (w *watcher) disconnected(nc *nats.Conn, err error) {
	if hook := w.options.Hooks.Disconnected; hook != nil {
		hook(nc, err)
	}
}

func (w *watcher) closed(nc *nats.Conn) {
	if hook := w.options.Hooks.GaveUp; hook != nil {
		hook(fmt.Errorf("the connection to the NATS server was given up for good: %w", nc.LastError()))
	}
}

// asyncError also gets what ends an attempt to reconnect; sub is then nil.
func (w *watcher) asyncError(nc *nats.Conn, sub *nats.Subscription, err error) {
	if sub == nil && (isCredentialError(err) || !nc.IsConnected()) {
		w.failed(err)
		return
	}
	if hook := w.options.Hooks.Error; hook != nil {
		hook(nc, err)
	}
}
