// Package leaf is leaf mode: a nats-server within the process that stores messages until the
// hub, which sources them, has them.
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

// Options describe an embedded leaf node. Hub, URLs, Domain, StoreDir and
// Streams are required.
type Options struct {
	// Hub holds the credentials and the TLS files that the link uses, as a
	// client of the hub would give them; its URL is not dialled.
	Hub conn.Options
	// URLs are the hub's leaf node listeners, comma-separated: nats-leaf://,
	// tls://, ws:// or wss://. The link goes to no other.
	URLs string
	// Domain is the JetStream domain. The hub asks for the streams under
	// $JS.<domain>.API, so no two sites may have the same.
	Domain   string
	StoreDir string
	// MaxBytes bounds all streams together. Beyond it every message is refused,
	// whatever its size (error 10023): so none overtakes another.
	MaxBytes int64
	// MaxPayload is the largest message, in bytes. It may not be above the hub's:
	// what the hub does not take would end the link again and again.
	MaxPayload int32
	// SyncInterval is when the files are forced to the disk; 0: at every message.
	SyncInterval time.Duration
	// DuplicateWindow of the streams.
	DuplicateWindow time.Duration
	// Streams to hold, with their subjects. Neither a message nor an interest in
	// any of these crosses the link: the hub's streams take them by sourcing.
	Streams []streams.Spec
	// Log as in [embedded.Options].
	Log func(level, line string)
}

// Leaf is a nats-server within the process that stores messages for a hub which
// sources them, linked to it as a leaf node. It listens on no port.
type Leaf struct {
	options Options
	server  *embedded.Server
	lock    *os.File
	nc      *nats.Conn
	js      natsjs.JetStream
	// lastError is the latest line of the server about a link that failed.
	lastError atomic.Pointer[string]
	// presented is what the link presents and trusts, as of the latest Renew.
	presented string
	// mark is what the file beside the store says. SetBack: the machine went down with
	// the store in use, see [Leaf.Renumber].
	mark storeMark
	// apart: there must be no link yet, see [Leaf.Prove].
	apart bool
}

// Start returns a leaf node whose streams exist. The link comes about in its
// own time; a hub that cannot be reached is no error.
func Start(ctx context.Context, o Options) (*Leaf, error) {
	remote, err := o.remote()
	if err != nil {
		return nil, err
	}
	l := &Leaf{options: o, apart: true}
	if l.mark, l.lock, err = openStore(o.StoreDir); err != nil {
		return nil, err
	}
	l.presented = o.presented(remote)
	l.server, err = embedded.Start(l.serverOptions(remote))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the leaf node: %w", err), l.lock.Close())
	}
	l.nc, err = nats.Connect(nats.DefaultURL, nats.InProcessServer(l.server.InProcess()), nats.Name("leaf"), nats.MaxReconnects(-1))
	if err == nil {
		l.js, err = natsjs.New(l.nc)
	}
	if err == nil {
		err = l.makeStreams(ctx)
	}
	if err == nil {
		err = l.doubt(ctx)
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
		NoListen: true, MaxStore: o.MaxBytes, Log: l.note,
		Configure: func(opts *natsd.Options) {
			opts.MaxPayload = o.MaxPayload
			opts.SyncInterval, opts.SyncAlways = o.SyncInterval, o.SyncInterval == 0
			remote.Disabled = l.apart
			opts.LeafNode.Remotes = []*natsd.RemoteLeafOpts{remote}
			opts.LeafNode.ReconnectInterval = leafReconnect
		},
	}
}

// leafReconnect is the pause between attempts to reach the hub.
const leafReconnect = time.Second

// remote is the link. Credentials are those of a client, as far as the protocol
// of leaf nodes has them: a user's JWT and seed, an nkey, user and password, and
// a token, which it carries as a user without a password.
func (o Options) remote() (*natsd.RemoteLeafOpts, error) {
	hub, err := o.Hub.Resolve()
	if err != nil {
		return nil, err
	}
	// Reads every file, and finds two methods at a time.
	id, err := hub.Identity()
	if err != nil {
		return nil, err
	}
	user := userinfo(hub, id)
	// The hub also tells at what addresses it listens, and the server would try
	// these first when the link is lost: they are those of its own network, and of
	// no use from far away.
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
		// A copy each: the server appends to them.
		remote.DenyExports = append(remote.DenyExports, s.Subjects...)
		remote.DenyImports = append(remote.DenyImports, s.Subjects...)
	}
	return remote, nil
}

// userinfo is what a leaf node carries in its URL; nil: nothing.
func userinfo(o conn.Options, id *conn.Identity) *url.Userinfo {
	switch {
	case id.User != "":
		return url.UserPassword(id.User, id.Password)
	case id.Token != "":
		return url.User(id.Token)
	}
	for _, raw := range conn.SplitURLs(o.URL) {
		if u, err := url.Parse(raw); err == nil && u.User != nil {
			return u.User
		}
	}
	return nil
}

// signLeaf answers the hub's challenge with the JWT and the seed of a context of the nats
// CLI, as they are now.
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

// note keeps what the server says of a failed link: it has no other way to tell.
func (l *Leaf) note(level, line string) {
	if level != "info" && strings.Contains(strings.ToLower(line), "leafnode") {
		l.lastError.Store(&line)
	}
	if l.options.Log != nil {
		l.options.Log(level, line)
	}
}

// InProcess is for [publish.Options].
func (l *Leaf) InProcess() nats.InProcessConnProvider { return l.server.InProcess() }

// Link tells whether the link to the hub stands, and what the server said last
// where it does not.
func (l *Leaf) Link() (up bool, problem string) {
	if l.server.NATS().NumLeafNodes() > 0 {
		l.lastError.Store(nil)
		return true, ""
	}
	if l.apart {
		return false, "waiting for the hub to say what it has stored"
	}
	if line := l.lastError.Load(); line != nil {
		return false, *line
	}
	return false, ""
}

// Close ends the server and forces its files to the disk, so that the next start
// need not ask the hub what it has.
func (l *Leaf) Close() error {
	if l.nc != nil {
		l.nc.Close()
	}
	l.server.Shutdown()
	return errors.Join(closeStore(l.options.StoreDir, l.mark), l.lock.Close())
}

// makeStreams makes what is missing and gives what exists its subjects.
func (l *Leaf) makeStreams(ctx context.Context) error {
	for _, spec := range l.options.Streams {
		stream, err := l.js.Stream(ctx, spec.Name)
		switch {
		case errors.Is(err, natsjs.ErrStreamNotFound):
			cfg := l.config(spec)
			cfg.FirstSeq = sequenceFloor(time.Now())
			_, err = l.js.CreateStream(ctx, cfg)
		case err == nil && l.differs(stream.CachedInfo().Config, spec):
			cfg := stream.CachedInfo().Config
			cfg.Subjects, cfg.Duplicates = spec.Subjects, l.options.DuplicateWindow
			cfg.MaxMsgs, cfg.MaxBytes, cfg.MaxAge = -1, -1, 0
			_, err = l.js.UpdateStream(ctx, cfg)
		}
		if err != nil {
			return fmt.Errorf("make local stream %s in %s: %w", spec.Name, l.options.StoreDir, err)
		}
	}
	return nil
}

func (l *Leaf) differs(is natsjs.StreamConfig, spec streams.Spec) bool {
	return !streams.SameSubjects(is.Subjects, spec.Subjects) || is.Duplicates != l.options.DuplicateWindow ||
		is.MaxMsgs > 0 || is.MaxBytes > 0 || is.MaxAge > 0
}

// config is that of a local stream: nothing leaves it but what is purged.
func (l *Leaf) config(spec streams.Spec) natsjs.StreamConfig {
	return natsjs.StreamConfig{
		Name: spec.Name, Description: "waits for the hub, which sources it; see nats.mode leaf of mqtt-nats-bridge",
		Subjects: slices.Clone(spec.Subjects), Storage: natsjs.FileStorage,
		Retention: natsjs.LimitsPolicy, Discard: natsjs.DiscardNew,
		MaxMsgs: -1, MaxBytes: -1, Duplicates: l.options.DuplicateWindow, Replicas: 1,
	}
}
