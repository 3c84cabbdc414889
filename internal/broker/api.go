package broker

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// API returns the part of EMQX's HTTP API (/api/v5) that the bridge uses: sessions, counters, $share
// groups, rules, settings and listeners. It accepts any key.
func (b *Broker) API() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v5/clients", func(w http.ResponseWriter, r *http.Request) { list(w, b.apiClients(r.URL.Query()["clientid"])) })
	mux.HandleFunc("GET /api/v5/metrics", func(w http.ResponseWriter, _ *http.Request) {
		c := b.Counters()
		respond(w, object{"messages.dropped.no_subscribers": c.NoSubscribers, "delivery.dropped.queue_full": c.QueueFull})
	})
	mux.HandleFunc("GET /api/v5/subscriptions", func(w http.ResponseWriter, r *http.Request) {
		list(w, b.apiMembers(r.URL.Query().Get("share_group")))
	})
	mux.HandleFunc("GET /api/v5/rules", func(w http.ResponseWriter, _ *http.Request) { list(w, b.apiRules()) })
	mux.HandleFunc("GET /api/v5/configs/global_zone", func(w http.ResponseWriter, _ *http.Request) {
		respond(w, object{"mqtt": object{"shared_subscription_strategy": b.options.Share.String(), "clientid_override": "disabled"}})
	})
	mux.HandleFunc("GET /api/v5/configs/broker", func(w http.ResponseWriter, _ *http.Request) { respond(w, object{}) })
	mux.HandleFunc("GET /api/v5/authorization/settings", func(w http.ResponseWriter, _ *http.Request) {
		action := "disconnect"
		if b.options.DenyIgnored {
			action = "ignore"
		}
		respond(w, object{"no_match": "deny", "deny_action": action, "cache": object{"enable": b.options.AuthzCache > 0}})
	})
	mux.HandleFunc("GET /api/v5/listeners/{id}", func(w http.ResponseWriter, r *http.Request) { b.apiListener(w, r.PathValue("id")) })
	mux.HandleFunc("POST /api/v5/listeners/{id}/start", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") == deviceListener {
			b.OpenGate()
		}
		b.apiListener(w, r.PathValue("id"))
	})
	return mux
}

const (
	serviceListener = "tcp:default"
	deviceListener  = "ssl:default"
)

type object = map[string]any

func (b *Broker) apiClients(ids []string) []object {
	all := []object{}
	for _, c := range b.Clients() {
		if len(ids) > 0 && !slices.Contains(ids, c.ID) {
			continue
		}
		listener := serviceListener
		if c.Device {
			listener = deviceListener
		}
		all = append(all, object{
			"clientid": c.ID, "username": c.Username, "connected": c.Connected, "node": "emqx@127.0.0.1", "listener": listener,
			"mqueue_len": c.Queued, "mqueue_max": c.Limits.MaxQueue, "mqueue_dropped": c.Dropped,
			"inflight_cnt": c.InFlight, "subscriptions_cnt": len(b.filters(c.ID)),
		})
	}
	return all
}

// filters returns the filters of a session's subscriptions.
func (b *Broker) filters(id string) []string {
	var all []string
	if cl, ok := b.server.Clients.Get(id); ok {
		for filter := range cl.State.Subscriptions.GetAll() {
			all = append(all, filter)
		}
	}
	return all
}

func (b *Broker) apiMembers(group string) []object {
	all := []object{}
	for _, c := range b.Clients() {
		for _, filter := range b.filters(c.ID) {
			if strings.HasPrefix(filter, "$share/"+group+"/") {
				all = append(all, object{"clientid": c.ID, "topic": filter})
			}
		}
	}
	return all
}

func (b *Broker) apiRules() []object {
	if !b.options.Attest || !b.loaded(Rule) {
		return []object{}
	}
	return []object{{
		"id": ruleID, "enable": true, "from": []string{"tenant/+/device/+/#"},
		"actions": []object{{"function": "republish", "args": object{"topic": b.options.Prefix + "/${p}/${id}/${ts}/${cn}/${topic}"}}},
	}}
}

func (b *Broker) apiListener(w http.ResponseWriter, id string) {
	running := id == serviceListener || b.gateOpen.Load()
	kind, name, _ := strings.Cut(id, ":")
	if name != "default" || kind != "tcp" && kind != "ssl" {
		w.WriteHeader(http.StatusNotFound)
		respond(w, object{"code": "BAD_LISTENER_ID", "message": "Listener id not found"})
		return
	}
	respond(w, object{"id": id, "type": kind, "enable": running, "running": running})
}

func list(w http.ResponseWriter, data []object) {
	respond(w, object{"data": data, "meta": object{"page": 1, "hasnext": false}})
}

func respond(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // an error means that the client has disconnected
}
