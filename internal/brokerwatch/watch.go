// Package brokerwatch monitors the broker's queues of the bridge's lanes through EMQX's HTTP API. It
// reports their fill, dropped messages, and other members of the lanes' share groups.
package brokerwatch

import (
	"context"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/emqx"
	"mqtt-nats-bridge/internal/health"
	"mqtt-nats-bridge/internal/metrics"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/internal/sleep"
)

const (
	// pollEvery is the pause between readings of the queues. EMQX updates its figures of a
	// session every 15 s.
	pollEvery = 10 * time.Second
	// surveyEvery is the interval between readings of settings and share groups. It is long
	// because EMQX searches its whole subscription table for a group.
	surveyEvery = 5 * time.Minute
	// freshFor is how long the last readings are reported after the API has stopped answering.
	freshFor = time.Minute
)

// Watch polls EMQX's API for the state of the lanes' messages before the bridge receives them. It
// only observes: the bridge does not depend on the API.
type Watch struct {
	client *emqx.Client
	api    string
	// lanes are the client ids of the lanes. groups maps each $share group to its lane.
	lanes  []string
	groups map[string]string
	// elsewhere reports whether another replica serves a lane.
	elsewhere func(clientID string) bool
	log       zerolog.Logger

	polls   *health.Condition           // whether the API answers
	metrics *metrics.List[emqx.Session] // of the queues

	mu       sync.Mutex
	polled   time.Time // the last success
	surveyed time.Time // the last survey
	counters emqx.Counters
	queues   map[string]*queue
	settings *emqx.Settings // nil: unknown
	members  []emqx.Subscription
	found    map[string]time.Time // the start of each warning, by kind
}

// New returns nil if the API is not configured. elsewhere reports whether another replica serves a
// lane.
func New(c *config.Config, lanes []plan.Lane, elsewhere func(clientID string) bool, log zerolog.Logger) *Watch {
	e := c.MQTT.EMQX
	if e.API.IsZero() {
		return nil
	}
	w := &Watch{
		client: plan.EMQXClient(e), api: e.API.String(), groups: map[string]string{},
		elsewhere: elsewhere, log: log, metrics: queueMetrics(),
		queues: map[string]*queue{}, found: map[string]time.Time{},
	}
	w.polls = health.New(health.Options{
		Component: "broker", Log: log.With().Str("api", w.api).Logger(), Warn: true,
		Failed: "EMQX API unavailable, broker queues are not watched", Ended: "EMQX API available again",
	})
	for _, l := range lanes {
		w.lanes = append(w.lanes, l.ClientID)
		if c.Identity.Mode != config.Attested {
			continue // other bridges may be members of mqtt.share
		}
		for _, f := range l.Filters {
			if group, ok := shareGroup(f); ok {
				w.groups[group] = l.ClientID
			}
		}
	}
	return w
}

// shareGroup returns the group of a shared filter.
func shareGroup(filter string) (string, bool) {
	rest, ok := strings.CutPrefix(filter, "$share/")
	group, _, _ := strings.Cut(rest, "/")
	return group, ok
}

// Run polls until ctx ends.
func (w *Watch) Run(ctx context.Context) {
	defer w.client.Close()
	for ctx.Err() == nil {
		w.Poll(ctx)
		sleep.For(ctx, pollEvery)
	}
}

// Poll reads the API once.
func (w *Watch) Poll(ctx context.Context) {
	sessions, err := w.client.Sessions(ctx, w.lanes)
	var counters emqx.Counters
	if err == nil {
		counters, err = w.client.Counters(ctx)
	}
	if ctx.Err() != nil {
		return
	}
	w.polls.Set(err)
	if err != nil {
		return
	}
	now := time.Now()
	w.mu.Lock()
	w.polled, w.counters = now, counters
	for id, s := range sessions {
		q := w.queues[id]
		if q == nil {
			q = &queue{}
			w.queues[id] = q
		}
		q.observe(now, s)
	}
	maps.DeleteFunc(w.queues, func(id string, _ *queue) bool {
		_, ok := sessions[id]
		return !ok
	})
	survey := now.Sub(w.surveyed) >= surveyEvery
	w.mu.Unlock()
	if survey {
		w.survey(ctx, now)
	}
}

// survey reads settings and share groups, which rarely change. Data that the API key's role cannot
// read stays unknown.
func (w *Watch) survey(ctx context.Context, now time.Time) {
	var members []emqx.Subscription
	for group, lane := range w.groups {
		found, err := w.client.GroupMembers(ctx, group)
		if err != nil {
			w.log.Debug().Err(err).Str("group", group).Msg("share group members could not be read")
			continue
		}
		for _, m := range found {
			if m.ClientID != lane {
				members = append(members, m)
			}
		}
	}
	settings, err := w.client.Settings(ctx)
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	w.surveyed, w.members, w.settings = now, members, nil
	if err == nil {
		w.settings = &settings
	}
	w.mu.Unlock()
	if err != nil {
		w.log.Debug().Err(err).Msg("EMQX configuration could not be read")
	}
}
