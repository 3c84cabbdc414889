package page

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"
)

// Source is the program that a page is about.
type Source interface {
	// Measures are what the history follows. They are asked for every two seconds and
	// must be cheap.
	Measures() []Measure
	// View is everything but host, time and charts. h has the rates.
	View(ctx context.Context, h *History) View
}

// Page serves one program's page.
type Page struct {
	source  Source
	history *History
	host    string

	mu   sync.Mutex // held while a view is rendered: a second viewer gets the same one
	body []byte
	at   time.Time
}

//go:embed static
var static embed.FS

const (
	// viewAge is how old a view may be: viewers in any number cost the program and the
	// NATS server one view per second.
	viewAge = time.Second
	// viewTimeout bounds making one.
	viewTimeout = 5 * time.Second
	// policy lets the page load its own two files and nothing else.
	policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// New returns the page of a program.
func New(s Source) *Page {
	host, _ := os.Hostname()
	return &Page{source: s, history: NewHistory(), host: host}
}

// History is what Sample has kept.
func (p *Page) History() *History { return p.history }

// Sample keeps the history until ctx ends.
func (p *Page) Sample(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	p.history.Add(time.Now(), p.source.Measures())
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			p.history.Add(now, p.source.Measures())
		}
	}
}

// ServePage answers with the page itself.
func (p *Page) ServePage(w http.ResponseWriter, req *http.Request) {
	serve(w, "index.html", "text/html; charset=utf-8")
}

// Routes adds what the page loads.
func (p *Page) Routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /page/page.js", func(w http.ResponseWriter, _ *http.Request) {
		serve(w, "page.js", "text/javascript; charset=utf-8")
	})
	mux.HandleFunc("GET /page/page.css", func(w http.ResponseWriter, _ *http.Request) {
		serve(w, "page.css", "text/css; charset=utf-8")
	})
	mux.HandleFunc("GET /page/view", p.serveView)
}

func serve(w http.ResponseWriter, name, kind string) {
	body, err := static.ReadFile("static/" + name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	write(w, kind, body)
}

func write(w http.ResponseWriter, kind string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write(body) // the client has gone
}

func (p *Page) serveView(w http.ResponseWriter, req *http.Request) {
	body, err := p.view(req.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	write(w, "application/json", body)
}

// view returns the latest view as JSON, a new one where that is too old.
func (p *Page) view(ctx context.Context) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.body != nil && time.Since(p.at) < viewAge {
		return p.body, nil
	}
	// Others wait for it too, so it does not end with the one who asked.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), viewTimeout)
	defer cancel()
	v := p.source.View(ctx, p.history)
	v.Host, v.At, v.Charts = p.host, time.Now().UTC(), p.history.Charts()
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("write the view: %w", err)
	}
	p.body, p.at = body, time.Now()
	return body, nil
}
