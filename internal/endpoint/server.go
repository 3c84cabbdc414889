package endpoint

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Server is a running endpoint.
type Server struct {
	http *http.Server
	addr *net.TCPAddr
	log  zerolog.Logger
	done chan struct{} // closed when nothing is served any more

	stopSampling context.CancelFunc
	sampling     sync.WaitGroup
}

const (
	// headerTimeout bounds reading a request's headers, so that clients that
	// send nothing cannot keep connections open.
	headerTimeout = 5 * time.Second
	// writeTimeout bounds an answer. net/http/pprof adds the seconds that a
	// profile takes.
	writeTimeout = 30 * time.Second
	idleTimeout  = time.Minute
	maxHeader    = 16 << 10
	// closeTimeout is how long Close waits for answers in progress.
	closeTimeout = 2 * time.Second
)

// Open serves the routes of p, and what it has besides, at listen (host:port; port
// 0: the kernel chooses). It returns once connections are taken. The error names
// the address and the key it is configured by.
func Open(listen string, p Program, log zerolog.Logger) (*Server, error) {
	l, err := Listen(listen)
	if err != nil {
		return nil, err
	}
	return l.Serve(p, log), nil
}

// Listener is the address of an endpoint, open before there is a program to serve. Nil, and the
// [Server] that it returns, is of a program without an endpoint: the methods do nothing.
type Listener struct{ listener net.Listener }

// Listen opens the address without serving anything yet: a program that finds it taken has not
// done anything else. Without an address it returns nil.
func Listen(listen string) (*Listener, error) {
	if listen == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("open the admin endpoint at %q: %w: set admin.listen to a free address, or to nothing", listen, err)
	}
	return &Listener{l}, nil
}

// Close closes the address, unless the server has done it.
func (l *Listener) Close() {
	if l != nil {
		_ = l.listener.Close() // fails only when it is closed
	}
}

// Serve serves the routes of p, and what it has besides.
func (l *Listener) Serve(p Program, log zerolog.Logger) *Server {
	if l == nil {
		return nil
	}
	addr := l.listener.Addr().(*net.TCPAddr)
	s := &Server{addr: addr, log: log, done: make(chan struct{})}
	s.http = &http.Server{
		Handler:           newMux(p, addr.IP.IsLoopback()),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       headerTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          stdlog.New(log, "admin: ", 0),
	}
	go s.serve(l.listener)
	ctx, cancel := context.WithCancel(context.Background())
	s.stopSampling = cancel
	s.sampling.Go(func() { p.Sample(ctx) })
	log.Info().Str("address", s.Addr()).Msg("admin endpoint open")
	return s
}

func (s *Server) serve(l net.Listener) {
	defer close(s.done)
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		s.log.Error().Str("component", "admin").Err(err).Msg("the admin endpoint has ended")
	}
}

// Addr is where the server listens, as host:port.
func (s *Server) Addr() string { return s.addr.String() }

// Close stops serving and waits: for answers in progress 2 s at most, then it cuts
// them off. Further calls do nothing.
func (s *Server) Close() {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close() // closes what Shutdown would have waited for
	}
	<-s.done
	s.stopSampling()
	s.sampling.Wait()
}
