package brokerwatch

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/emqx"
	"mqtt-nats-bridge/internal/health"
)

// queueWarnFill is the used share of a queue at which the warning starts.
const queueWarnFill = 0.5

// emqxDefaultQueue is EMQX's default of max_mqueue_len.
const emqxDefaultQueue = 1000

// Warnings returns problems at the broker that an operator should know about. They do not affect the
// bridge's readiness.
func (w *Watch) Warnings() []health.Problem {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if failed := w.polls.Problems(); failed != nil && now.Sub(w.polled) > freshFor {
		failed[0].Problem = "EMQX's API at " + w.api + " does not answer, broker queues are not watched: " + failed[0].Problem
		return failed
	}
	all := slices.Concat(w.fillWarnings(), w.dropWarnings(now), w.limitWarnings(), w.groupWarnings())
	current := map[string]bool{}
	for i := range all {
		kind := all[i].Subject
		all[i].Subject = ""
		current[kind] = true
		if w.found[kind].IsZero() {
			w.found[kind] = now
		}
		if all[i].Since.IsZero() {
			all[i].Since = w.found[kind]
		}
	}
	maps.DeleteFunc(w.found, func(kind string, _ time.Time) bool { return !current[kind] })
	return all
}

// warning returns a problem. Its start is remembered by kind.
func warning(kind string, lanes []string, advice, format string, args ...any) health.Problem {
	return health.Problem{Component: "broker", Subject: kind, Lanes: lanes, Advice: advice, Problem: fmt.Sprintf(format, args...)}
}

// served returns the client ids of the lanes that this replica serves and whose queue is known.
func (w *Watch) served() (ids []string) {
	for _, id := range w.lanes {
		if w.queues[id] != nil && !w.elsewhere(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// fillWarnings returns one warning for all queues that are at least half full. It describes the queue
// that will be full first.
func (w *Watch) fillWarnings() []health.Problem {
	var lanes []string
	worst := ""
	for _, id := range w.served() {
		if w.queues[id].fill() < queueWarnFill {
			continue
		}
		lanes = append(lanes, id)
		if worst == "" || fullSooner(w.queues[id], w.queues[worst]) {
			worst = id
		}
	}
	if worst == "" {
		return nil
	}
	q := w.queues[worst]
	when := "is not growing"
	if left, grows := q.left(); grows {
		when = "will be full in about " + minutes(left) + " at the current rate"
	}
	return []health.Problem{warning("fill", lanes, "find out why messages are not stored faster: problems in /readyz, mqttbridge_ack_latency_seconds, JetStream",
		"EMQX's queue for %s contains %d of %d messages (%.0f %%) and %s; a full queue drops its oldest messages",
		worst, q.session.QueueLength, q.session.QueueLimit, 100*q.fill(), when)}
}

func fullSooner(a, b *queue) bool {
	leftA, growsA := a.left()
	leftB, growsB := b.left()
	if growsA && growsB {
		return leftA < leftB
	}
	return growsA || !growsB && a.fill() > b.fill()
}

func minutes(d time.Duration) string {
	switch n := int(d.Round(time.Minute).Minutes()); {
	case d < time.Minute:
		return "1 minute"
	case n < 120:
		return strconv.Itoa(n) + " minutes"
	default:
		return strconv.Itoa(n/60) + " hours"
	}
}

// dropWarnings returns a warning about messages that EMQX dropped from full queues of lanes.
func (w *Watch) dropWarnings(now time.Time) []health.Problem {
	var lanes []string
	var dropped uint64
	for _, id := range w.served() {
		if q := w.queues[id]; q.dropped > 0 && now.Sub(q.droppedAt) < dropsShown {
			lanes = append(lanes, id)
			dropped += q.dropped
		}
	}
	if len(lanes) == 0 {
		return nil
	}
	return []health.Problem{warning("drops", lanes, "the messages are lost; raise zones.<zone>.mqtt.max_mqueue_len in EMQX, and find out why the queue filled up",
		"EMQX dropped %d messages from full queues of the bridge", dropped)}
}

// limitWarnings returns warnings about queues with a low limit. A session keeps the limits of the
// zone in which it was created.
func (w *Watch) limitWarnings() []health.Problem {
	// The API does not report zones, so the lanes are compared with each other.
	var most emqx.Limit
	for _, q := range w.queues {
		most = max(most, q.session.QueueLimit)
	}
	var stale, small []string
	var least emqx.Limit
	for _, id := range w.served() {
		switch limit := w.queues[id].session.QueueLimit; {
		case limit > 0 && limit < most:
			stale, least = append(stale, id), limit
		case limit == emqxDefaultQueue:
			small = append(small, id)
		}
	}
	var all []health.Problem
	if len(stale) > 0 {
		all = append(all, warning("limit", stale, "once its queue is empty, run emqx ctl clients kick "+stale[0]+": the lane reconnects and creates a new session",
			"EMQX queues at most %d messages for %s, and %d for other lanes: a session keeps the limits that applied when it was created",
			least, strings.Join(stale, ", "), most))
	}
	if len(small) > 0 {
		all = append(all, warning("default", small, "set max_mqueue_len in the zone of the bridge's listener, as deploy/emqx/emqx.conf does; see docs/emqx.md",
			"EMQX queues at most %d messages for a lane, its default, and then drops the oldest", emqxDefaultQueue))
	}
	return all
}

// groupWarnings returns warnings about share groups: about members that are not lanes, and about the
// strategy.
func (w *Watch) groupWarnings() []health.Problem {
	var all []health.Problem
	for _, m := range w.members {
		all = append(all, warning("member "+m.ClientID+" "+m.Filter, nil, "make sure that nothing uses this client id, then run mqtt-nats-bridge sessions clear "+m.ClientID,
			"client %s is subscribed to %s, a $share group of the bridge: EMQX sends it messages that the bridge never receives, and queues them while it is disconnected", m.ClientID, m.Filter))
	}
	if w.settings == nil {
		return all
	}
	for _, group := range slices.Sorted(maps.Keys(w.groups)) {
		if s := w.settings.Strategy(group); s != emqx.HashClientID {
			return append(all, warning("strategy", nil, "set mqtt.shared_subscription_strategy = "+emqx.HashClientID+" in emqx.conf",
				"EMQX distributes the bridge's $share groups by %s: during a session takeover of a lane, the order or messages are lost", s))
		}
	}
	return all
}
