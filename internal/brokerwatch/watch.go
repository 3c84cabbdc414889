// Package brokerwatch observes, through EMQX's HTTP API, the broker's queues of the bridge's
// lanes: how full they are, what EMQX dropped, and who else is in their share groups.
package brokerwatch

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/emqx"
	"mqtt-nats-bridge/internal/health"
	"mqtt-nats-bridge/internal/plan"
)

const (
	// pollEvery is how often the queues are read. EMQX refreshes its own figures of a
	// session every 15 s.
	pollEvery = 10 * time.Second
	// surveyEvery is how often settings and share groups are read: EMQX searches its
	// whole table of subscriptions for a group.
	surveyEvery = 5 * time.Minute
	// freshFor is how long the last readings are shown once the API is silent.
	freshFor = time.Minute
)

// Watch polls EMQX's API for what happens to the lanes' messages before the bridge
// sees them. It only observes: without the API nothing else changes.
type Watch struct {
	client *emqx.Client
	api    string
	// lanes are client ids, groups the lane of each $share group.
	lanes  []string
	groups map[string]string
	// elsewhere reports whether another replica serves a lane.
	elsewhere func(clientID string) bool
	log       zerolog.Logger

	answers *health.Condition // the API
	metrics *metrics

	mu       sync.Mutex
	polled   time.Time // the last success
	surveyed time.Time
	counters emqx.Counters
	queues   map[string]*queue
	settings *emqx.Settings // nil: not known
	members  []emqx.Subscription
	found    map[string]time.Time // since when a warning is given
}

// New returns nil where the API is not configured. elsewhere reports whether another replica
// serves a lane.
func New(c *config.Config, lanes []plan.Lane, elsewhere func(clientID string) bool, log zerolog.Logger) *Watch {
	e := c.MQTT.EMQX
	if e.API.IsZero() {
		return nil
	}
	w := &Watch{
		client: plan.EMQXClient(e), api: e.API.String(), groups: map[string]string{},
		elsewhere: elsewhere, log: log, metrics: newMetrics(),
		queues: map[string]*queue{}, found: map[string]time.Time{},
	}
	w.answers = health.New(health.Options{
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
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		w.Poll(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
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
	w.answers.Set(err)
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
	for id := range w.queues {
		if _, ok := sessions[id]; !ok {
			delete(w.queues, id)
		}
	}
	survey := now.Sub(w.surveyed) >= surveyEvery
	w.mu.Unlock()
	if survey {
		w.survey(ctx, now)
	}
}

// survey reads what changes rarely. What the key's role does not allow stays unknown.
func (w *Watch) survey(ctx context.Context, now time.Time) {
	var members []emqx.Subscription
	for group, lane := range w.groups {
		found, err := w.client.GroupMembers(ctx, group)
		if err != nil {
			w.log.Debug().Err(err).Str("group", group).Msg("read members of share group")
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
		w.log.Debug().Err(err).Msg("read EMQX configuration")
	}
}
