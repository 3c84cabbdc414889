// Package conn maintains one connection to NATS: dialling, credentials, TLS, indefinite reconnects,
// and a one-sentence reason when it is down.
package conn

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// Defaults of [Options].
const (
	DefaultConnectTimeout   = 5 * time.Second
	DefaultReconnectWait    = 100 * time.Millisecond
	DefaultReconnectWaitMax = 2 * time.Second
	// PingInterval detects within two intervals a peer that vanished without a FIN. nats.go's
	// default of 2 min would take four to six minutes.
	PingInterval = 10 * time.Second
)

// ErrDisconnected means that there is no connection to NATS.
var ErrDisconnected = errors.New("not connected to NATS")

// Options describe how to connect to NATS. The zero value connects to the server on this machine
// without credentials.
//
// Credentials are set once: in the URL, as User and Password, Token, Creds or NKeySeedFile. Two
// kinds are an error, because nats.go would silently pick one (userinfo in a URL overrides all
// options). Files, including those of a CLI context, are read again on each connect.
type Options struct {
	// URL is one server or several, comma-separated. Default: that of the Context, otherwise
	// nats://127.0.0.1:4222. The scheme tls:// requires TLS.
	URL string
	// Name is the connection's name in the server's monitoring.
	Name string

	User, Password string
	Token          string
	// PasswordFile and TokenFile take precedence over Password and Token. A trailing newline is
	// dropped.
	PasswordFile, TokenFile string
	// Creds is the path of a credentials file (JWT and seed).
	Creds string
	// NKeySeedFile is the path of a user nkey seed.
	NKeySeedFile string

	// TLS takes precedence over TLSFiles.
	TLS      *tls.Config
	TLSFiles TLSFiles

	// Context is the name of a context of the nats CLI. Fields set here take precedence over the
	// context; credentials take precedence as a whole.
	Context string
	// ContextDir is the directory of the contexts. Default: $XDG_CONFIG_HOME/nats/context,
	// otherwise ~/.config/nats/context.
	ContextDir string

	// InboxPrefix replaces _INBOX, for accounts without permission to subscribe to it.
	InboxPrefix string
	// Domain and APIPrefix locate JetStream's API. At most one of them may be set.
	Domain, APIPrefix string

	// ConnectTimeout bounds one attempt on one address of a server, and each handshake after it.
	ConnectTimeout time.Duration
	// ReconnectWait is the first pause after all servers were tried. It doubles up to
	// ReconnectWaitMax. Up to half of it is added at random, so that the lanes of a fleet do not
	// reconnect at the same instant.
	ReconnectWait, ReconnectWaitMax time.Duration
	// InitialConnectTimeout bounds how long Connect waits for the first attempt, which then
	// continues in the background. 0: Connect waits until the attempt has ended, which takes one
	// connect timeout per server that does not answer.
	InitialConnectTimeout time.Duration

	// InProcess connects to an embedded server without a socket. The URL is not dialled then. See
	// [embedded.Server.InProcess].
	InProcess nats.InProcessConnProvider

	Hooks Hooks

	userJWT, userSeed string   // from a CLI context
	unresolved        *Options // the options before the context was applied; nil: no context
}

// Hooks are called on state changes. Each may be nil. They must not block: nats.go calls them from
// the goroutines that reconnect. ConnectFailed may overlap with the others.
type Hooks struct {
	// Connected is called when the first connection is established.
	Connected func(nc *nats.Conn)
	// Disconnected is called when an established connection is lost; err may be nil.
	Disconnected func(nc *nats.Conn, err error)
	// Reconnected is called when the connection is established again. New publishes may precede
	// this call.
	Reconnected func(nc *nats.Conn)
	// ConnectFailed is called when an attempt failed for a different reason than the previous
	// attempt: once per change, not once per attempt.
	ConnectFailed func(p Problem)
	// Closed is called when nats.go stops reconnecting, but not after nc.Close. nats.go closes a
	// connection permanently on an unknown -ERR. Under TLS that cannot be intercepted here, and
	// only a new connection helps.
	Closed func(err error)
	// Error is called with errors that cannot be returned to a caller, such as a permission
	// violation or a slow consumer.
	Error func(nc *nats.Conn, err error)
}

// Resolve returns the options with the CLI context and the defaults filled in. Its error names the
// file that was not found or readable.
func (o Options) Resolve() (Options, error) {
	if o.Context != "" {
		merged, err := o.withContext()
		if err != nil {
			return o, err
		}
		unresolved := o
		merged.unresolved = &unresolved
		o = merged
	}
	o.URL = cmp.Or(o.URL, nats.DefaultURL)
	o.ConnectTimeout = cmp.Or(max(o.ConnectTimeout, 0), DefaultConnectTimeout)
	o.ReconnectWait = cmp.Or(max(o.ReconnectWait, 0), DefaultReconnectWait)
	o.ReconnectWaitMax = cmp.Or(max(o.ReconnectWaitMax, 0), max(DefaultReconnectWaitMax, o.ReconnectWait))
	return o, nil
}

// Connect starts a connection that retries indefinitely. An unreachable server and refused
// credentials are reported through Hooks. Connect blocks only for the first attempt, for at most
// InitialConnectTimeout. An error means that the options cannot work, or, with
// nats.RetryOnFailedConnect(false) among extra, is a [Problem]. extra options are applied last and
// take precedence; handlers among them run after the hooks, not instead of them.
func Connect(o Options, extra ...nats.Option) (*nats.Conn, error) {
	o, err := o.Resolve()
	if err != nil {
		return nil, err
	}
	opts, watch, err := o.options()
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(o.URL, append(opts, keepHandlers(extra), watch.dialer.wrap)...)
	if err != nil {
		watch.dialer.closeLast()
		if watch.dialer.dialled.Load() {
			return nil, watch.problem(err)
		}
		return nil, fmt.Errorf("connect to nats at %s: %w", RedactURL(o.URL), err)
	}
	watch.conn.Store(nc)
	if o.InitialConnectTimeout > 0 {
		select {
		case <-watch.firstDone:
		case <-time.After(o.InitialConnectTimeout):
		}
	}
	return nc, nil
}

// JetStream returns the API at the domain or prefix of o. It does no I/O.
func (o Options) JetStream(nc *nats.Conn) (natsjs.JetStream, error) {
	o, err := o.Resolve()
	if err != nil {
		return nil, err
	}
	switch {
	case o.Domain != "" && o.APIPrefix != "":
		return nil, fmt.Errorf("choose jetstream api: both a domain (%s) and a prefix (%s) are set", o.Domain, o.APIPrefix)
	case o.Domain != "":
		return natsjs.NewWithDomain(nc, o.Domain)
	case o.APIPrefix != "":
		return natsjs.NewWithAPIPrefix(nc, o.APIPrefix)
	}
	return natsjs.New(nc)
}

// API returns the prefix of the subjects of JetStream's API at the domain or prefix of o.
func (o Options) API() (string, error) {
	o, err := o.Resolve()
	return apiPrefix(o.Domain, o.APIPrefix), err
}

// options requires resolved options.
func (o Options) options() ([]nats.Option, *watcher, error) {
	if err := o.checkURLs(); err != nil {
		return nil, nil, err
	}
	watch := newWatcher(o)
	if err := watch.refresh(); err != nil {
		return nil, nil, err
	}
	opts := []nats.Option{
		nats.Name(o.Name),
		nats.Timeout(o.ConnectTimeout),
		nats.PingInterval(PingInterval),
		nats.MaxPingsOutstanding(1), // closes at the second tick without an answer
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		// Without this option, nats.go closes permanently when a server answers the same
		// authorization error twice. Credentials fixed on the server would then require a restart
		// of the bridge.
		nats.IgnoreAuthErrorAbort(),
		// A publish while disconnected fails immediately. A buffered one would be sent on
		// reconnect, ahead of the messages that the publisher resends.
		nats.ReconnectBufSize(-1),
		nats.CustomReconnectDelay(watch.delay),
		nats.NoCallbacksAfterClientClose(),
		nats.SkipHostLookup(), // the dialer looks up hosts, see Dial
		nats.ConnectHandler(watch.established(o.Hooks.Connected)),
		nats.ReconnectHandler(watch.established(o.Hooks.Reconnected)),
		nats.ReconnectErrHandler(watch.attemptFailed),
		nats.DisconnectErrHandler(watch.disconnected),
		nats.ClosedHandler(watch.closed),
		nats.ErrorHandler(watch.asyncError),
	}
	opts = append(opts, watch.authOptions()...)
	opts = append(opts, watch.tlsOptions()...)
	if o.InboxPrefix != "" {
		opts = append(opts, nats.CustomInboxPrefix(o.InboxPrefix))
	}
	if o.InProcess != nil {
		opts = append(opts, nats.InProcessServer(o.InProcess))
	}
	return opts, watch, nil
}

// keepHandlers applies extra so that its handlers are called in addition to those already set.
func keepHandlers(extra []nats.Option) nats.Option {
	return func(opts *nats.Options) error {
		own := *opts
		opts.ConnectedCB, opts.ReconnectedCB, opts.ClosedCB = nil, nil, nil
		opts.ReconnectErrCB, opts.DisconnectedErrCB, opts.AsyncErrorCB = nil, nil, nil
		for _, option := range extra {
			if option == nil {
				continue
			}
			if err := option(opts); err != nil {
				return err
			}
		}
		opts.ConnectedCB = bothConn(own.ConnectedCB, opts.ConnectedCB)
		opts.ReconnectedCB = bothConn(own.ReconnectedCB, opts.ReconnectedCB)
		opts.ClosedCB = bothConn(own.ClosedCB, opts.ClosedCB)
		opts.ReconnectErrCB = bothErr(own.ReconnectErrCB, opts.ReconnectErrCB)
		opts.DisconnectedErrCB = bothErr(own.DisconnectedErrCB, opts.DisconnectedErrCB)
		if first, second := own.AsyncErrorCB, opts.AsyncErrorCB; second == nil {
			opts.AsyncErrorCB = first
		} else {
			opts.AsyncErrorCB = func(nc *nats.Conn, sub *nats.Subscription, err error) {
				first(nc, sub, err)
				second(nc, sub, err)
			}
		}
		return nil
	}
}

func bothConn(first, second nats.ConnHandler) nats.ConnHandler {
	if second == nil {
		return first
	}
	return func(nc *nats.Conn) {
		first(nc)
		second(nc)
	}
}

func bothErr(first, second nats.ConnErrHandler) nats.ConnErrHandler {
	if second == nil {
		return first
	}
	return func(nc *nats.Conn, err error) {
		first(nc, err)
		second(nc, err)
	}
}

// checkURLs validates the URLs, because nats.go's error for a bad URL quotes it, including the
// password.
func (o Options) checkURLs() error {
	for _, raw := range SplitURLs(o.URL) {
		text := raw
		if !strings.Contains(text, "://") {
			text = "nats://" + text
		}
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" {
			return fmt.Errorf("read nats url %q: not of the form nats://host:port; a special character in a password must be percent-encoded", RedactURL(raw))
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return fmt.Errorf("read nats url %q: the scheme must be nats, tls, ws or wss", RedactURL(raw))
		}
	}
	return nil
}

// SplitURLs splits a comma-separated list of URLs.
func SplitURLs(urls string) []string {
	var out []string
	for part := range strings.SplitSeq(urls, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// backOff returns the pause before round n (from 1) over all servers.
func (o Options) backOff(n int) time.Duration {
	wait := o.ReconnectWait
	for i := 1; i < n && wait < o.ReconnectWaitMax; i++ {
		wait *= 2
	}
	wait = min(wait, o.ReconnectWaitMax)
	return wait + rand.N(wait/2+1)
}
