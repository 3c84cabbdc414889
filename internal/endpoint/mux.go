// Package endpoint implements the HTTP endpoint for operators of every program of this module: /livez,
// /readyz, /status, /metrics and, on loopback, profiles. A program can add its own routes.
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

// Program is the program that an endpoint reports on. Its methods can be called at any time.
type Program interface {
	// Ready reports whether the program is ready, and otherwise the problems.
	Ready() (bool, []Problem)
	// Warnings returns problems that do not affect readiness.
	Warnings() []Problem
	// Status returns the program's complete state, for JSON.
	Status(context.Context) any
	// Metrics returns the program's metrics. It is called once.
	Metrics() *prometheus.Registry
	// Index returns the text of / for clients other than browsers, without the line about profiles.
	Index() string
	// ServePage serves the page at / to a browser.
	ServePage(http.ResponseWriter, *http.Request)
	// Sample records the history that the page shows, until ctx ends.
	Sample(ctx context.Context)
	// Routes adds the program's own routes.
	Routes(*http.ServeMux)
}

// newMux returns a separate mux. Any linked package can register handlers in net/http's default mux,
// and pprof does.
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
		// A scrape briefly locks parts of the message path, so the number of concurrent scrapes is
		// limited.
		MaxRequestsInFlight: 4,
	}))
	if loopback {
		// Profiles are only for local users: a profile costs CPU, and a heap dump contains the
		// process's memory.
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	p.Routes(mux)
	return mux
}

// live reports that the process serves requests. It does not check peers, because a restart of this
// process would not fix them.
func live(w http.ResponseWriter, _ *http.Request) { writeText(w, "ok\n") }

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = fmt.Fprint(w, text) // an error means that the client has disconnected
}
