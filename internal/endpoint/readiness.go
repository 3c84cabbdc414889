package endpoint

import (
	"encoding/json"
	"net/http"

	"mqtt-nats-bridge/internal/health"
)

// Problem is why a part of a program is not ready.
type Problem = health.Problem

// readiness is the body of /readyz, and what Healthcheck reads.
type readiness struct {
	Ready    bool      `json:"ready"`
	Problems []Problem `json:"problems,omitempty"`
	// Warnings do not keep it from being ready.
	Warnings []Problem `json:"warnings,omitempty"`
}

// WriteJSON answers with v, indented: people read it with curl.
func WriteJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n')) // the client has gone
}
