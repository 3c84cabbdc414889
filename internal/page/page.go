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

// Source is the program that a page shows.
type Source interface {
	// Measures returns the measures that the history records. It is called every two seconds and
	// must be cheap.
	Measures() []Measure
	// View returns the view without host, time and charts. h provides the rates.
	View(ctx context.Context, h *History) View
}

// Page serves one program's page.
type Page struct {
	source  Source
	history *History
	host    string

	mu   sync.Mutex // locked while a view is created, so that concurrent viewers share it
	body []byte
	at   time.Time
}

//go:embed static
var static embed.FS

const (
	// viewAge is the maximum age of a view. Any number of viewers costs the program and the NATS
	// server at most one view per second.
	viewAge = time.Second
	// viewTimeout bounds the creation of a view.
	viewTimeout = 5 * time.Second
	// policy allows the page to load only its own two files and the view.
	policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// New returns the page of a program.
func New(s Source) *Page {
	host, _ := os.Hostname()
	return &Page{source: s, history: NewHistory(), host: host}
}

// History returns the history that Sample records.
func (p *Page) History() *History { return p.history }

// Sample records the history until ctx ends.
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

// ServePage serves the page itself.
func (p *Page) ServePage(w http.ResponseWriter, req *http.Request) {
	serve(w, "index.html", "text/html; charset=utf-8")
}

// Routes adds the paths that the page loads.
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
	_, _ = w.Write(body) // an error means that the client has disconnected
}

func (p *Page) serveView(w http.ResponseWriter, req *http.Request) {
	body, err := p.view(req.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	write(w, "application/json", body)
}

// view returns the latest view as JSON. If that is too old, it creates a new one.
func (p *Page) view(ctx context.Context) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.body != nil && time.Since(p.at) < viewAge {
		return p.body, nil
	}
	// Other viewers wait for the same view, so the end of this request must not cancel it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), viewTimeout)
	defer cancel()
	v := p.source.View(ctx, p.history)
	v.Host, v.At, v.Charts = p.host, time.Now().UTC(), p.history.Charts()
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode the view: %w", err)
	}
	p.body, p.at = body, time.Now()
	return body, nil
}
