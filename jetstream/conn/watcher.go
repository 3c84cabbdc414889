package conn

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// watcher turns nats.go's callbacks into [Hooks].
//
// nats.go reports a failed attempt in three ways (read in 1.55.0). A dial error goes to
// ReconnectErrCB. A refused CONNECT goes to AsyncErrorCB, but only if a connection was established
// before. A failed TLS handshake, or a refused CONNECT before the first connection, is only
// available from LastError until the next attempt overwrites it. So delay reads LastError: it is
// called between attempts, outside nats.go's lock. If one of several servers refuses and the next
// cannot be dialled, only the second problem may be seen.
type watcher struct {
	options  Options
	dialer   gate
	identity atomic.Pointer[Identity] // of the latest attempt
	// conn is nil until nats.go has passed the connection to a callback or Connect has returned it.
	conn atomic.Pointer[nats.Conn]

	firstDone    chan struct{} // closed when the first attempt has ended
	firstOnce    sync.Once
	lastReported atomic.Value // the Cause of the last problem reported; empty while connected
}

func newWatcher(o Options) *watcher {
	w := &watcher{options: o, firstDone: make(chan struct{})}
	w.dialer.refresh = w.refresh
	w.dialer.deferred.Store(o.InitialConnectTimeout > 0)
	return w
}

// refresh reads the credentials and certificates for the next attempt. It runs under nats.go's
// lock, as every dial does.
func (w *watcher) refresh() error {
	now, err := w.options.Identity()
	if err != nil {
		return err
	}
	if before := w.identity.Load(); before != nil {
		if before.method != now.method {
			return &LocalFileError{fmt.Errorf("read nats context: it has other credentials than at the start, %s instead of %s: restart to use them",
				cmp.Or(now.method, "none"), cmp.Or(before.method, "none"))}
		}
		nc := w.conn.Load()
		if now.PublicKey != before.PublicKey {
			if nc == nil {
				return nil // nats.go still uses the previous key
			}
			nc.Opts.Nkey = now.PublicKey
		}
	}
	w.identity.Store(now)
	return nil
}

// problem classifies the failure of an attempt for which nats.go reported err.
func (w *watcher) problem(err error) Problem {
	seen, dialErr := w.dialer.lastAttempt()
	if dialErr != nil && errors.Is(err, nats.ErrNoServers) {
		err = dialErr // the reason behind nats.go's "no servers available"
	}
	return classify(err, seen, w.options.URL)
}

func (w *watcher) delay(round int) time.Duration {
	if w.dialer.deferred.Swap(false) {
		return 0
	}
	if nc := w.conn.Load(); nc != nil {
		if err := nc.LastError(); err != nil {
			w.connectFailed(err)
		}
	}
	w.dialer.closeLast()
	return w.options.backOff(round)
}

func (w *watcher) connectFailed(err error) {
	if errors.Is(err, errDeferred) {
		return
	}
	w.firstOnce.Do(func() { close(w.firstDone) })
	hook := w.options.Hooks.ConnectFailed
	if hook == nil {
		return
	}
	// Compare causes only: the error's text alternates between the servers of a cluster.
	if problem := w.problem(err); w.lastReported.Swap(problem.Cause) != problem.Cause {
		hook(problem)
	}
}

// established returns the handler of a new connection. It calls hook unless that is nil.
func (w *watcher) established(hook func(*nats.Conn)) nats.ConnHandler {
	return func(nc *nats.Conn) {
		w.conn.Store(nc)
		w.firstOnce.Do(func() { close(w.firstDone) })
		w.lastReported.Store(Cause(""))
		if hook != nil {
			hook(nc)
		}
	}
}

func (w *watcher) attemptFailed(nc *nats.Conn, err error) {
	w.conn.Store(nc)
	w.connectFailed(err)
}

func (w *watcher) disconnected(nc *nats.Conn, err error) {
	if hook := w.options.Hooks.Disconnected; hook != nil {
		hook(nc, err)
	}
}

func (w *watcher) closed(nc *nats.Conn) {
	if hook := w.options.Hooks.Closed; hook != nil {
		hook(fmt.Errorf("the connection to the NATS server was closed permanently: %w", nc.LastError()))
	}
}

// asyncError also receives the error that ends a reconnect attempt; sub is nil then.
func (w *watcher) asyncError(nc *nats.Conn, sub *nats.Subscription, err error) {
	if sub == nil && (isCredentialError(err) || !nc.IsConnected()) {
		w.connectFailed(err)
		return
	}
	if hook := w.options.Hooks.Error; hook != nil {
		hook(nc, err)
	}
}
