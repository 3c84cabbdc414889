package admin

import (
	"context"
	"net/http"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/endpoint"
	"mqtt-nats-bridge/internal/page"
)

// Open serves b at listen; see [endpoint.Open].
func Open(listen string, b *daemon.Bridge, log zerolog.Logger) (*endpoint.Server, error) {
	return endpoint.Open(listen, newRoutes(b), log)
}

// Serve serves b on l, which [endpoint.Listen] has opened.
func Serve(l *endpoint.Listener, b *daemon.Bridge, log zerolog.Logger) *endpoint.Server {
	return l.Serve(newRoutes(b), log)
}

// routes serves the paths of one bridge.
type routes struct {
	*daemon.Bridge
	*page.Page
}

func newRoutes(b *daemon.Bridge) *routes { return &routes{b, page.New(&overview{bridge: b})} }

// Status implements [endpoint.Program].
func (r *routes) Status(ctx context.Context) any { return r.Bridge.Status(ctx) }

// Routes implements [endpoint.Program].
func (r *routes) Routes(mux *http.ServeMux) {
	r.Page.Routes(mux)
	mux.HandleFunc("GET /devices", r.top)
	mux.HandleFunc("GET /devices/{tenant}/{device}", r.device)
}

// errorBody is the body of every error response.
type errorBody struct {
	Error string `json:"error"`
}

// Index implements [endpoint.Program].
func (r *routes) Index() string {
	return `mqtt-nats-bridge

/                             everything on one page, in a browser
/livez                        200 while the process serves requests
/readyz                       200, or 503 with the problems
/status                       lanes, sessions, streams, counts
/metrics                      for Prometheus
/devices?top=20&by=received   the devices with the most messages; or by=rejected
/devices/{tenant}/{device}    one device
`
}
