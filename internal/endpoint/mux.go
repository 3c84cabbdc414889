// Package endpoint is the HTTP endpoint for operators that every program of this
// module has: /livez, /readyz, /status, /metrics and, on loopback, profiles. What a
// program has besides, it adds.
package endpoint

import (
	"context"
	"fmt"
	"net/http"
	"net/http/pprof"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Program is what an endpoint reports on. Its methods are called at any time.
type Program interface {
	// Ready reports whether the program does its job, and what is in the way.
	Ready() (bool, []Problem)
	// Warnings are what does not keep it from doing its job.
	Warnings() []Problem
	// Status is everything about it, for JSON.
	Status(context.Context) any
	// Metrics is called once.
	Metrics() *prometheus.Registry
	// Index is the text of / for programs like curl, without the line of the profiles.
	Index() string
	// ServePage answers a browser at /.
	ServePage(http.ResponseWriter, *http.Request)
	// Sample keeps what the page shows of the past until ctx ends.
	Sample(ctx context.Context)
	// Routes adds the program's own.
	Routes(*http.ServeMux)
}

// newMux returns a separate mux: any package in the binary can register handlers in
// net/http's default one, and linking pprof does.
func newMux(p Program, loopback bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Vary", "Accept")
		if strings.Contains(req.Header.Get("Accept"), "text/html") {
			p.ServePage(w, req)
			return
		}
		text := p.Index()
		if loopback {
			text += "/debug/pprof/                 profiles of the process\n"
		}
		writeText(w, text)
	})
	mux.HandleFunc("GET /livez", live)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		ready, problems := p.Ready()
		code := http.StatusOK
		if !ready {
			code = http.StatusServiceUnavailable
		}
		WriteJSON(w, code, readiness{Ready: ready, Problems: problems, Warnings: p.Warnings()})
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, req *http.Request) {
		WriteJSON(w, http.StatusOK, p.Status(req.Context()))
	})
	registry := p.Metrics()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		Registry: registry, // counts failed scrapes
		// Each scrape locks what works for a moment: too many scrapers must
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
	p.Routes(mux)
	return mux
}

// live says that the process serves. It looks at nothing: restarting it fixes no
// peer.
func live(w http.ResponseWriter, _ *http.Request) { writeText(w, "ok\n") }

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = fmt.Fprint(w, text) // the client has gone
}
