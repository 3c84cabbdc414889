package endpoint

import (
	"encoding/json"
	"net/http"

	"mqtt-nats-bridge/internal/health"
)

// Problem is the reason why a part of a program is not ready.
type Problem = health.Problem

// readiness is the body of /readyz. Healthcheck decodes it.
type readiness struct {
	Ready    bool      `json:"ready"`
	Problems []Problem `json:"problems,omitempty"`
	// Warnings do not affect readiness.
	Warnings []Problem `json:"warnings,omitempty"`
}

// WriteJSON writes v as the response. The JSON is indented, because users read it with curl.
func WriteJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n')) // an error means that the client has disconnected
}
