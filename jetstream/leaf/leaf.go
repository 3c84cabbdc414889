// Package leaf implements leaf mode: an embedded nats-server stores messages until the hub has
// sourced them.
package leaf

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/embedded"
	"mqtt-nats-bridge/jetstream/streams"
)

// Options configure an embedded leaf node. Hub, URLs, Domain, StoreDir and Streams are required.
type Options struct {
	// Hub contains the credentials and TLS files of the link, as for a client of the hub. Its URL
	// is not dialled.
	Hub conn.Options
	// URLs are the hub's leaf node listeners, comma-separated: nats-leaf://, tls://, ws:// or
	// wss://. The link connects only to these.
	URLs string
	// Domain is the JetStream domain, unique per site. The hub requests the streams under
	// $JS.<domain>.API.
	Domain   string
	StoreDir string
	// MaxBytes bounds all streams together. Once it is reached, every message is refused, whatever
	// its size (error 10023), so that no message overtakes another.
	MaxBytes int64
	// MaxPayload is the maximum message size, in bytes. It must not exceed the hub's: a message
	// that the hub refuses would end the link repeatedly.
	MaxPayload int32
	// SyncInterval is the fsync interval. 0: after every message.
	SyncInterval time.Duration
	// DuplicateWindow is the duplicate window of the streams.
	DuplicateWindow time.Duration
	// Streams are the local streams and their subjects. Neither messages nor interest in these
	// subjects cross the link: the hub's streams source them.
	Streams []streams.Spec
	// Log is used as in [embedded.Options].
	Log func(level, line string)
}

// Leaf is an embedded nats-server that is linked to a hub as a leaf node. It stores messages until
// the hub sources them. It listens on no port.
type Leaf struct {
	options Options
	server  *embedded.Server
	lock    *os.File
	nc      *nats.Conn
	js      natsjs.JetStream
	// lastError is the server's latest log line about a failed link.
	lastError atomic.Pointer[string]
	// fingerprint identifies the credentials and CAs that the link uses, as of the latest Renew.
	fingerprint string
	// mark is the content of the file next to the store.
	mark storeMark
	// linkDisabled means that the link must not be established yet; see [Leaf.ConfirmSequences].
	linkDisabled atomic.Bool
}

// Open returns a leaf node whose streams exist. The link is established in the background, so an
// unreachable hub is not an error.
func Open(ctx context.Context, o Options) (*Leaf, error) {
	remote, err := o.remote()
	if err != nil {
		return nil, err
	}
	l := &Leaf{options: o}
	l.linkDisabled.Store(true)
	if l.mark, l.lock, err = openStore(o.StoreDir); err != nil {
		return nil, err
	}
	l.fingerprint = o.credentialsHash(remote)
	l.server, err = embedded.Open(l.serverOptions(remote))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the leaf node: %w", err), l.lock.Close())
	}
	l.nc, err = nats.Connect(nats.DefaultURL, nats.InProcessServer(l.server.InProcess()), nats.Name("leaf"), nats.MaxReconnects(-1))
	if err == nil {
		l.js, err = natsjs.New(l.nc)
	}
	if err == nil {
		err = l.createStreams(ctx)
	}
	if err == nil {
		err = l.checkSequences(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the leaf node: %w", err), l.Close())
	}
	return l, nil
}

func (l *Leaf) serverOptions(remote *natsd.RemoteLeafOpts) embedded.Options {
	o := l.options
	return embedded.Options{
		StoreDir: o.StoreDir, Domain: o.Domain, ServerName: "mqtt-nats-bridge-" + o.Domain,
		NoListen: true, MaxStore: o.MaxBytes, Log: l.logLine,
		Configure: func(opts *natsd.Options) {
			opts.MaxPayload = o.MaxPayload
			opts.SyncInterval, opts.SyncAlways = o.SyncInterval, o.SyncInterval == 0
			remote.Disabled = l.linkDisabled.Load()
			opts.LeafNode.Remotes = []*natsd.RemoteLeafOpts{remote}
			opts.LeafNode.ReconnectInterval = leafReconnect
		},
	}
}

// leafReconnect is the pause between attempts to connect to the hub.
const leafReconnect = time.Second

// remote returns the configuration of the link. Its credentials are those of a client, as far as
// the leaf node protocol supports them: a user's JWT and seed, an nkey, user and password, or a
// token, which is sent as a user without a password.
func (o Options) remote() (*natsd.RemoteLeafOpts, error) {
	hub, err := o.Hub.Resolve()
	if err != nil {
		return nil, err
	}
	// Identity reads every file and detects conflicting credentials.
	id, err := hub.Identity()
	if err != nil {
		return nil, err
	}
	user := userinfo(hub, id)
	// The hub also advertises its addresses, and the server would try these first after losing the
	// link. They belong to the hub's network and are often unreachable from here.
	remote := &natsd.RemoteLeafOpts{Credentials: hub.Creds, IgnoreDiscoveredServers: true}
	for _, raw := range conn.SplitURLs(o.URLs) {
		u, err := url.Parse(raw)
		if err != nil {
			return nil, fmt.Errorf("read leaf node url %q: %w", conn.RedactURL(raw), errors.Unwrap(err))
		}
		u.User = user
		remote.TLS = remote.TLS || u.Scheme == "tls" || u.Scheme == "wss"
		remote.URLs = append(remote.URLs, u)
	}
	if id.PublicKey != "" {
		remote.Nkey = id.Seed
	}
	if id.JWT != "" && hub.Creds == "" {
		remote.SignatureCB = signLeaf(hub)
	}
	if config := hub.TLS; config != nil || hub.TLSFiles != (conn.TLSFiles{}) || remote.TLS {
		if config == nil {
			if config, err = hub.TLSFiles.Config(); err != nil {
				return nil, err
			}
		}
		remote.TLS, remote.TLSConfig = true, config
		remote.TLSTimeout = hub.ConnectTimeout.Seconds()
		remote.TLSHandshakeFirst = hub.TLSFiles.HandshakeFirst
	}
	for _, s := range o.Streams {
		// The server appends to these slices, so each gets a copy.
		remote.DenyExports = append(remote.DenyExports, s.Subjects...)
		remote.DenyImports = append(remote.DenyImports, s.Subjects...)
	}
	return remote, nil
}

// userinfo returns the credentials that a leaf node sends in its URL; nil if there are none.
func userinfo(o conn.Options, id *conn.Identity) *url.Userinfo {
	switch {
	case id.User != "":
		return url.UserPassword(id.User, id.Password)
	case id.Token != "":
		return url.User(id.Token)
	}
	return o.URLUser()
}

// signLeaf answers the hub's challenge with the current JWT and seed of a nats CLI context.
func signLeaf(hub conn.Options) natsd.SignatureHandler {
	return func(nonce []byte) (string, []byte, error) {
		id, err := hub.Identity()
		if err != nil {
			return "", nil, err
		}
		signature, err := id.Sign(nonce)
		return id.JWT, signature, err
	}
}

// logLine keeps the server's log lines about a failed link, because the server reports the reason
// in no other way.
func (l *Leaf) logLine(level, line string) {
	if level != "info" && strings.Contains(strings.ToLower(line), "leafnode") {
		l.lastError.Store(&line)
	}
	if l.options.Log != nil {
		l.options.Log(level, line)
	}
}

// InProcess returns the provider of connections for publish.Options.
func (l *Leaf) InProcess() nats.InProcessConnProvider { return l.server.InProcess() }

// Link reports whether the link to the hub is up. If it is not, problem is the server's last error.
func (l *Leaf) Link() (up bool, problem string) {
	if l.server.NATS().NumLeafNodes() > 0 {
		l.lastError.Store(nil)
		return true, ""
	}
	if l.linkDisabled.Load() {
		return false, "waiting for the hub to report what it has stored"
	}
	if line := l.lastError.Load(); line != nil {
		return false, *line
	}
	return false, ""
}

// Close stops the server and syncs its files, so that the next start does not have to ask the hub
// what it has stored.
func (l *Leaf) Close() error {
	if l.nc != nil {
		l.nc.Close()
	}
	l.server.Close()
	return errors.Join(closeStore(l.options.StoreDir, l.mark), l.lock.Close())
}

// createStreams creates missing streams and updates the subjects of existing ones.
func (l *Leaf) createStreams(ctx context.Context) error {
	for _, spec := range l.options.Streams {
		stream, err := l.js.Stream(ctx, spec.Name)
		switch {
		case errors.Is(err, natsjs.ErrStreamNotFound):
			cfg := l.config(spec)
			cfg.FirstSeq = sequenceFloor(time.Now())
			_, err = l.js.CreateStream(ctx, cfg)
		case err == nil && l.needsUpdate(stream.CachedInfo().Config, spec):
			cfg := stream.CachedInfo().Config
			cfg.Subjects, cfg.Duplicates = spec.Subjects, l.options.DuplicateWindow
			cfg.MaxMsgs, cfg.MaxBytes, cfg.MaxAge = -1, -1, 0
			_, err = l.js.UpdateStream(ctx, cfg)
		}
		if err != nil {
			return fmt.Errorf("create local stream %s in %s: %w", spec.Name, l.options.StoreDir, err)
		}
	}
	return nil
}

func (l *Leaf) needsUpdate(is natsjs.StreamConfig, spec streams.Spec) bool {
	return !streams.SameSubjects(is.Subjects, spec.Subjects) || is.Duplicates != l.options.DuplicateWindow ||
		is.MaxMsgs > 0 || is.MaxBytes > 0 || is.MaxAge > 0
}

// config returns the configuration of a local stream. Messages leave it only by a purge.
func (l *Leaf) config(spec streams.Spec) natsjs.StreamConfig {
	return natsjs.StreamConfig{
		Name: spec.Name, Description: "waits for the hub, which sources it; see nats.mode leaf of mqtt-nats-bridge",
		Subjects: slices.Clone(spec.Subjects), Storage: natsjs.FileStorage,
		Retention: natsjs.LimitsPolicy, Discard: natsjs.DiscardNew,
		MaxMsgs: -1, MaxBytes: -1, Duplicates: l.options.DuplicateWindow, Replicas: 1,
	}
}
