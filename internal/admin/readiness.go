package admin

import (
	"encoding/json"
	"net/http"

	"mqtt-nats-bridge/internal/daemon"
)

// readiness is the body of /readyz, and what Healthcheck reads.
type readiness struct {
	Ready    bool             `json:"ready"`
	Problems []daemon.Problem `json:"problems,omitempty"`
	// Warnings do not keep it from being ready.
	Warnings []daemon.Problem `json:"warnings,omitempty"`
}

func (r *routes) ready(w http.ResponseWriter, _ *http.Request) {
	ready, problems := r.bridge.Ready()
	code := http.StatusOK
	if !ready {
		code = http.StatusServiceUnavailable
	}
	writeJSON(w, code, readiness{Ready: ready, Problems: problems, Warnings: r.bridge.Warnings()})
}

func (r *routes) status(w http.ResponseWriter, req *http.Request) {
	writeJSON(w, http.StatusOK, r.bridge.Status(req.Context()))
}

// fault is the body of every answer that is an error.
type fault struct {
	Error string `json:"error"`
}

// writeJSON answers with v, indented: people read it with curl.
func writeJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n')) // whoever asked has gone
}
