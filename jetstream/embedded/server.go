// Package embedded runs a nats-server within the process: for the demo, the tests, bench and
// leaf mode. It and jetstream/leaf are the only ones that import nats-server.
package embedded

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// DefaultMaxStore is what an embedded server lets streams reserve, in
// bytes. nats-server's own default, three quarters of the free disk, is less
// than the default streams reserve on a small machine, and they could not be
// created. The figure only counts: nothing is allocated.
const DefaultMaxStore = 64 << 30

// Options describe an embedded nats-server. StoreDir is required, here or
// in the file.
type Options struct {
	// StoreDir is where JetStream keeps its files.
	StoreDir string
	Host     string // default 127.0.0.1
	// Port of the clients. 0 and -1: the kernel chooses.
	Port int
	// HTTPPort of the monitoring. 0: none; -1: the kernel chooses.
	HTTPPort   int
	ServerName string
	// ConfigFile is a nats-server configuration. The other fields win over it
	// where they are set; where neither says anything, the defaults are those
	// of this struct, not nats-server's 0.0.0.0:4222.
	ConfigFile string
	// Domain is the JetStream domain.
	Domain string
	// MaxMemory and MaxStore bound JetStream, in bytes. Zero: the file's, else
	// nats-server's and DefaultMaxStore.
	MaxMemory, MaxStore int64
	// NoListen opens no port at all: only [Server.InProcess] reaches the
	// server.
	NoListen bool
	// StartTimeout bounds the start; default 30 s. Long streams take a while
	// to recover.
	StartTimeout time.Duration
	// Log is given the server's lines, without it they are dropped. level is
	// one of info, warn, error. It is called from many goroutines.
	Log func(level, line string)
	// Configure has the last word on the options.
	Configure func(*natsd.Options)
}

// Server is a nats-server within this process.
type Server struct {
	srv     *natsd.Server
	clients *net.TCPAddr // nil under NoListen
	monitor *net.TCPAddr // nil where there is none
}

// Start returns a server that takes connections, or an error that says
// what kept it from it, a port in use for instance.
func Start(o Options) (*Server, error) {
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
	// A server embedded in a process does not exit on a fatal error: it says
	// so and is left half started.
	if err := log.fatalError(); err != nil {
		s.Shutdown()
		return nil, fmt.Errorf("start nats-server: %w", err)
	}
	timeout := o.StartTimeout
	if timeout <= 0 {
		timeout = 30 * time.Second
	}
	if !srv.ReadyForConnections(timeout) {
		s.Shutdown()
		return nil, fmt.Errorf("start nats-server: not ready after %s", timeout)
	}
	s.clients, _ = srv.Addr().(*net.TCPAddr)
	s.monitor = srv.MonitorAddr()
	return s, nil
}

func (o Options) server() (*natsd.Options, error) {
	opts := &natsd.Options{Port: natsd.RANDOM_PORT, JetStreamMaxStore: DefaultMaxStore}
	if o.ConfigFile != "" {
		fromFile, err := natsd.ProcessConfigFile(o.ConfigFile)
		if err != nil {
			return nil, fmt.Errorf("read nats-server configuration: %w", err)
		}
		opts = fromFile
	}
	// Signals and the process's exit are ours.
	opts.NoSigs = true
	opts.JetStream = true
	if o.StoreDir != "" {
		opts.StoreDir = o.StoreDir
	}
	switch {
	case o.Host != "":
		opts.Host = o.Host
	case opts.Host == "":
		opts.Host = "127.0.0.1"
	}
	switch {
	case o.Port != 0:
		opts.Port = o.Port
	case opts.Port == 0:
		opts.Port = natsd.RANDOM_PORT
	}
	if o.HTTPPort != 0 {
		opts.HTTPPort, opts.HTTPHost = o.HTTPPort, opts.Host
	}
	if o.ServerName != "" {
		opts.ServerName = o.ServerName
	}
	if o.Domain != "" {
		opts.JetStreamDomain = o.Domain
	}
	if o.MaxMemory != 0 {
		opts.JetStreamMaxMemory = o.MaxMemory
	}
	if o.MaxStore != 0 {
		opts.JetStreamMaxStore = o.MaxStore
	}
	opts.DontListen = opts.DontListen || o.NoListen
	if o.Configure != nil {
		o.Configure(opts)
	}
	if opts.StoreDir == "" {
		// nats-server would take a directory below /tmp that all servers of
		// the machine share.
		return nil, errors.New("configure nats-server: a directory for JetStream is required")
	}
	return opts, nil
}

// URL is where clients connect, without credentials; empty under NoListen. It
// stays the same after Shutdown.
func (s *Server) URL() string {
	if s.clients == nil {
		return ""
	}
	return "nats://" + reachable(s.clients)
}

// MonitorURL is the monitoring's base, empty where there is none.
func (s *Server) MonitorURL() string {
	if s.monitor == nil {
		return ""
	}
	return "http://" + reachable(s.monitor)
}

// reachable replaces "all addresses" by one.
func reachable(addr *net.TCPAddr) string {
	host := addr.IP.String()
	if addr.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, strconv.Itoa(addr.Port))
}

// Port is the clients' port, 0 under NoListen.
func (s *Server) Port() int {
	if s.clients == nil {
		return 0
	}
	return s.clients.Port
}

// NATS is the nats-server itself.
func (s *Server) NATS() *natsd.Server { return s.srv }

// Reload has the running server take new options, as far as nats-server can change them.
func (s *Server) Reload(o Options) error {
	opts, err := o.server()
	if err != nil {
		return err
	}
	return s.srv.ReloadOptions(opts)
}

// InProcess is for [conn.Options]: a connection without a socket.
func (s *Server) InProcess() nats.InProcessConnProvider { return s.srv }

// Shutdown stops the server and returns when its files are closed. Safe to call
// again.
func (s *Server) Shutdown() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}

// serverLog implements natsd.Logger and keeps the first fatal error.
type serverLog struct {
	sink func(level, line string)

	mu    sync.Mutex
	fatal error
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
	l.mu.Lock()
	if l.fatal == nil {
		l.fatal = fmt.Errorf(format, v...)
	}
	l.mu.Unlock()
	l.write("error", format, v)
}

func (l *serverLog) fatalError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}

// Debug and trace are switched off.
func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}
