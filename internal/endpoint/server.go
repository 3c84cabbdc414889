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
	done chan struct{} // closed after Serve has returned

	stopSampling context.CancelFunc
	sampling     sync.WaitGroup
}

const (
	// headerTimeout bounds the reading of a request's headers, so that idle clients cannot keep
	// connections open.
	headerTimeout = 5 * time.Second
	// writeTimeout bounds the writing of a response. net/http/pprof adds the duration of a profile.
	writeTimeout = 30 * time.Second
	idleTimeout  = time.Minute
	maxHeader    = 16 << 10
	// closeTimeout bounds the time that Close waits for responses in progress.
	closeTimeout = 2 * time.Second
)

// Open serves the standard routes and those of p at listen (host:port). With port 0, the kernel
// chooses the port. Open returns once connections are accepted. The error contains the address and
// its configuration key.
func Open(listen string, p Program, log zerolog.Logger) (*Server, error) {
	l, err := Listen(listen)
	if err != nil {
		return nil, err
	}
	return l.Serve(p, log), nil
}

// Listener is the open address of an endpoint, before the program exists that it serves. A program
// without an endpoint has a nil Listener, whose Serve returns a nil [Server]. Methods of both do
// nothing if they are nil.
type Listener struct{ listener net.Listener }

// Listen opens the address without serving yet, so that a program detects an address in use before
// it does anything else. It returns nil if listen is empty.
func Listen(listen string) (*Listener, error) {
	if listen == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("open the admin endpoint at %q: %w: set admin.listen to a free address, or leave it empty", listen, err)
	}
	return &Listener{l}, nil
}

// Close closes the address, unless the server has already closed it.
func (l *Listener) Close() {
	if l != nil {
		_ = l.listener.Close() // fails only if it is already closed
	}
}

// Serve serves the standard routes and those of p.
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
		s.log.Error().Str("component", "admin").Err(err).Msg("admin endpoint stopped unexpectedly")
	}
}

// Addr returns the address that the server listens on, as host:port.
func (s *Server) Addr() string { return s.addr.String() }

// Close stops serving. It waits at most 2 s for responses in progress and then closes their
// connections. Further calls do nothing.
func (s *Server) Close() {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close() // closes the connections that Shutdown was waiting for
	}
	<-s.done
	s.stopSampling()
	s.sampling.Wait()
}
