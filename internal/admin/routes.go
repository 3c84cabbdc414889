package admin

import (
	"fmt"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"mqtt-nats-bridge/internal/daemon"
)

// routes answers for one bridge.
type routes struct {
	bridge *daemon.Bridge
	pprof  bool
}

// newRoutes is a mux of its own: net/http's default one is open to every package
// in the binary, and holds pprof as soon as that is linked.
func newRoutes(b *daemon.Bridge, loopback bool) http.Handler {
	r := &routes{bridge: b, pprof: loopback}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", r.index)
	mux.HandleFunc("GET /livez", live)
	mux.HandleFunc("GET /readyz", r.ready)
	mux.HandleFunc("GET /status", r.status)
	mux.HandleFunc("GET /devices", r.top)
	mux.HandleFunc("GET /devices/{tenant}/{device}", r.device)
	registry := b.Metrics()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		Registry: registry, // counts failed scrapes
		// Each scrape locks every lane for a moment: scrapers gone wild must
		// not come near the message path.
		MaxRequestsInFlight: 4,
	}))
	if loopback {
		// A profile costs CPU and a heap dump shows memory: for somebody on
		// this machine only.
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

const indexText = `mqtt-nats-bridge

/livez                        200 while the process serves
/readyz                       200, or 503 and what is in the way
/status                       lanes, sessions, streams, counts
/metrics                      for Prometheus
/devices?top=20&by=received   the devices with the most messages; or by=rejected
/devices/{tenant}/{device}    one device
`

func (r *routes) index(w http.ResponseWriter, _ *http.Request) {
	text := indexText
	if r.pprof {
		text += "/debug/pprof/                 profiles of the process\n"
	}
	writeText(w, text)
}

// live says that the process serves. It looks at nothing: restarting the bridge
// mends no broker.
func live(w http.ResponseWriter, _ *http.Request) { writeText(w, "ok\n") }

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = fmt.Fprint(w, text) // whoever asked has gone
}
