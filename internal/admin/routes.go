package admin

import (
	"context"
	"net/http"

	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/endpoint"
	"mqtt-nats-bridge/internal/page"
)

// routes serves the paths of one bridge.
type routes struct {
	*daemon.Bridge
	*page.Page
}

// Program returns b as the program that an endpoint serves.
func Program(b *daemon.Bridge) endpoint.Program { return &routes{b, page.New(&overview{bridge: b})} }

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
