// Package emqxtest is a fake of EMQX's HTTP API for tests. Its responses have the format of EMQX 5.8.9.
package emqxtest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"mqtt-nats-bridge/internal/emqx"
)

// The API key that a new API accepts.
const (
	Key    = "bridge"
	Secret = "secret"
)

// State contains the data of the API's responses.
type State struct {
	Secret    string
	Fail      int // the HTTP status of every response; 0: requests are served
	Sessions  map[string]emqx.Session
	Counters  emqx.Counters
	Members   map[string][]emqx.Subscription // by $share group
	Listeners map[string]emqx.Listener
	Rules     []emqx.Rule
	Strategy  string
	Authz     emqx.Authorization
	Starts    int // the number of started listeners
}

// API is a running API.
type API struct {
	URL string

	mu    sync.Mutex
	state State
}

// Start starts an API that is stopped at the end of the test.
func Start(t *testing.T) *API {
	t.Helper()
	a := &API{state: State{
		Secret: Secret, Strategy: emqx.HashClientID,
		Sessions: map[string]emqx.Session{}, Members: map[string][]emqx.Subscription{}, Listeners: map[string]emqx.Listener{},
		Rules: []emqx.Rule{{Enabled: true, Actions: []json.RawMessage{
			[]byte(`{"function":"republish","args":{"topic":"bridge/v1/${p}/${id}/${ts}/${cn}/${topic}"}}`),
		}}},
		Authz: emqx.Authorization{NoMatch: "deny", DenyAction: "disconnect"},
	}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v5/clients", a.clients)
	mux.HandleFunc("GET /api/v5/metrics", func(w http.ResponseWriter, _ *http.Request) { answer(w, a.state.Counters) })
	mux.HandleFunc("GET /api/v5/subscriptions", func(w http.ResponseWriter, r *http.Request) {
		list(w, a.state.Members[r.URL.Query().Get("share_group")])
	})
	mux.HandleFunc("GET /api/v5/rules", func(w http.ResponseWriter, _ *http.Request) { list(w, a.state.Rules) })
	mux.HandleFunc("GET /api/v5/configs/global_zone", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"mqtt": map[string]any{"shared_subscription_strategy": a.state.Strategy, "clientid_override": "disabled", "peer_cert_as_clientid": "disabled"}})
	})
	mux.HandleFunc("GET /api/v5/configs/broker", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"enable_session_registry": true})
	})
	mux.HandleFunc("GET /api/v5/authorization/settings", func(w http.ResponseWriter, _ *http.Request) { answer(w, a.state.Authz) })
	mux.HandleFunc("GET /api/v5/listeners/{id}", func(w http.ResponseWriter, r *http.Request) {
		if l, ok := a.state.Listeners[r.PathValue("id")]; ok {
			answer(w, l)
			return
		}
		refuse(w, http.StatusNotFound, "BAD_LISTENER_ID", "Listener id not found")
	})
	mux.HandleFunc("POST /api/v5/listeners/{id}/start", a.start)
	server := httptest.NewServer(a.guard(mux))
	t.Cleanup(server.Close)
	a.URL = server.URL
	return a
}

// Change changes the state.
func (a *API) Change(change func(*State)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(&a.state)
}

// Env returns the BRIDGE_… variables of a bridge that uses the API, and the name of the file that
// contains the secret.
func (a *API) Env(t *testing.T) (env []string, secretFile string) {
	t.Helper()
	secretFile = filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secretFile, []byte(Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{
		"BRIDGE_MQTT_EMQX_API=" + a.URL, "BRIDGE_MQTT_EMQX_KEY=" + Key, "BRIDGE_MQTT_EMQX_SECRET_FILE=" + secretFile,
	}, secretFile
}

// guard checks the API key and locks the state while a request is served.
func (a *API) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		key, secret, _ := r.BasicAuth()
		switch {
		case a.state.Fail != 0:
			refuse(w, a.state.Fail, "FAILED", "configured by the test")
		case key != Key || secret != a.state.Secret:
			refuse(w, http.StatusUnauthorized, "BAD_API_KEY_OR_SECRET", "Check api_key/api_secret")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (a *API) clients(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	found := []emqx.Session{}
	if query.Has("clientid") {
		for _, id := range query["clientid"] {
			if s, ok := a.state.Sessions[id]; ok {
				found = append(found, s)
			}
		}
	} else {
		for _, s := range a.state.Sessions {
			found = append(found, s)
		}
	}
	list(w, found)
}

func (a *API) start(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	l, ok := a.state.Listeners[id]
	if !ok {
		refuse(w, http.StatusNotFound, "BAD_LISTENER_ID", "Listener id not found")
		return
	}
	l.Enabled, l.Running = true, true
	a.state.Listeners[id] = l
	a.state.Starts++
	w.WriteHeader(http.StatusOK)
}

func list[T any](w http.ResponseWriter, data []T) {
	if data == nil {
		data = []T{}
	}
	answer(w, map[string]any{"data": data, "meta": map[string]any{"page": 1, "hasnext": false}})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // an error means that the client has disconnected
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"code": code, "message": message})
}
