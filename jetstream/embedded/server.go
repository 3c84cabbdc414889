// Package embedded runs a nats-server within the process, for the demo, tests, bench and leaf mode.
// Only this package and jetstream/leaf import nats-server.
package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// DefaultMaxStore is the number of bytes that streams of an embedded server may reserve.
// nats-server's default is three quarters of the free disk. On a small machine that is less than
// the default streams reserve, so they could not be created. Nothing is allocated.
const DefaultMaxStore = 64 << 30

// startTimeout bounds the start. The recovery of large streams takes time.
const startTimeout = 30 * time.Second

// Options configure an embedded nats-server. StoreDir is required, here or in the file.
type Options struct {
	// StoreDir is the directory of JetStream's files.
	StoreDir string
	Host     string // default 127.0.0.1
	// Port is the client port. With 0 or -1 the kernel chooses it.
	Port int
	// HTTPPort is the monitoring port. 0: none; -1: the kernel chooses it.
	HTTPPort   int
	ServerName string
	// ConfigFile is a nats-server configuration file. Fields set here take precedence over it. If
	// neither sets a value, the defaults of this struct apply, not nats-server's 0.0.0.0:4222.
	ConfigFile string
	// Domain is the JetStream domain.
	Domain string
	// MaxStore bounds JetStream's use of the disk, in bytes. 0: the file's value, otherwise
	// DefaultMaxStore.
	MaxStore int64
	// NoListen opens no port. The server is reachable only through [Server.InProcess].
	NoListen bool
	// Log receives the server's log lines; nil drops them. level is info, warn or error. It is
	// called from many goroutines.
	Log func(level, line string)
	// Configure may change the final options.
	Configure func(*natsd.Options)
}

// Server is a nats-server within this process.
type Server struct {
	srv     *natsd.Server
	clients *net.TCPAddr // nil with NoListen
	monitor *net.TCPAddr // nil: none
}

// Open starts a server and returns once it accepts connections. Otherwise it returns the error,
// such as a port in use.
func Open(o Options) (*Server, error) {
	opts, err := o.server()
	if err != nil {
		return nil, err
	}
	srv, err := natsd.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("configure nats-server: %w", err)
	}
	log := &serverLog{sink: o.Log}
	srv.SetLogger(log, false, false)
	srv.Start()
	s := &Server{srv: srv}
	// An embedded server does not exit on a fatal error: it logs the error and remains partly
	// started.
	if err := log.fatal.Load(); err != nil {
		s.Close()
		return nil, fmt.Errorf("start nats-server: %w", *err)
	}
	if !srv.ReadyForConnections(startTimeout) {
		s.Close()
		return nil, fmt.Errorf("start nats-server: not ready after %s", startTimeout)
	}
	s.clients, _ = srv.Addr().(*net.TCPAddr)
	s.monitor = srv.MonitorAddr()
	return s, nil
}

func (o Options) server() (*natsd.Options, error) {
	opts := &natsd.Options{Port: natsd.RANDOM_PORT}
	if o.ConfigFile != "" {
		fromFile, err := natsd.ProcessConfigFile(o.ConfigFile)
		if err != nil {
			return nil, fmt.Errorf("read nats-server configuration: %w", err)
		}
		opts = fromFile
	}
	// The process itself handles signals and its exit.
	opts.NoSigs = true
	opts.JetStream = true
	opts.StoreDir = cmp.Or(o.StoreDir, opts.StoreDir)
	opts.Host = cmp.Or(o.Host, opts.Host, "127.0.0.1")
	opts.Port = cmp.Or(o.Port, opts.Port, natsd.RANDOM_PORT)
	if o.HTTPPort != 0 {
		opts.HTTPPort, opts.HTTPHost = o.HTTPPort, opts.Host
	}
	opts.ServerName = cmp.Or(o.ServerName, opts.ServerName)
	opts.JetStreamDomain = cmp.Or(o.Domain, opts.JetStreamDomain)
	opts.JetStreamMaxStore = cmp.Or(o.MaxStore, opts.JetStreamMaxStore, DefaultMaxStore)
	opts.DontListen = opts.DontListen || o.NoListen
	if o.Configure != nil {
		o.Configure(opts)
	}
	if opts.StoreDir == "" {
		// By default nats-server uses a directory below /tmp that all servers of the machine share.
		return nil, errors.New("configure nats-server: a directory for JetStream is required")
	}
	return opts, nil
}

// URL returns the address for clients, without credentials; empty with NoListen. It stays the same
// after Close.
func (s *Server) URL() string { return url("nats", s.clients) }

// MonitorURL returns the base URL of the monitoring endpoint; empty if there is none.
func (s *Server) MonitorURL() string { return url("http", s.monitor) }

// url returns the URL of a listener, with the loopback address instead of an unspecified one.
func url(scheme string, addr *net.TCPAddr) string {
	if addr == nil {
		return ""
	}
	host := addr.IP.String()
	if addr.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(addr.Port))
}

// Port returns the client port; 0 with NoListen.
func (s *Server) Port() int {
	if s.clients == nil {
		return 0
	}
	return s.clients.Port
}

// NATS returns the underlying nats-server.
func (s *Server) NATS() *natsd.Server { return s.srv }

// Reload applies new options to the running server, as far as nats-server can change them.
func (s *Server) Reload(o Options) error {
	opts, err := o.server()
	if err != nil {
		return err
	}
	return s.srv.ReloadOptions(opts)
}

// InProcess returns the provider of connections without a socket, for [conn.Options].
func (s *Server) InProcess() nats.InProcessConnProvider { return s.srv }

// Close stops the server and returns when its files are closed. It may be called again.
func (s *Server) Close() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}

// serverLog implements natsd.Logger and keeps the first fatal error.
type serverLog struct {
	sink  func(level, line string)
	fatal atomic.Pointer[error]
}

func (l *serverLog) write(level, format string, v []any) {
	if l.sink != nil {
		l.sink(level, fmt.Sprintf(format, v...))
	}
}

func (l *serverLog) Noticef(format string, v ...any) { l.write("info", format, v) }
func (l *serverLog) Warnf(format string, v ...any)   { l.write("warn", format, v) }
func (l *serverLog) Errorf(format string, v ...any)  { l.write("error", format, v) }

func (l *serverLog) Fatalf(format string, v ...any) {
	err := fmt.Errorf(format, v...)
	l.fatal.CompareAndSwap(nil, &err)
	l.write("error", format, v)
}

// Debugf implements natsd.Logger. Debug and trace are off.
func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}
