package daemon

import (
	"slices"
	"time"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/health"
	"mqtt-nats-bridge/internal/mqttaccount"
	"mqtt-nats-bridge/mqtt"
)

const (
	// warnFor is the time for which an event stays a warning, so that an operator can notice it.
	warnFor = 10 * time.Minute
	// silentAfter is the time for which the lanes may be subscribed without any message before a
	// warning.
	silentAfter = time.Minute
)

// Warnings lists the problems that do not keep the bridge from being ready. It is never nil.
func (b *Bridge) Warnings() []Problem {
	return append([]Problem{}, slices.Concat(b.dynamic.warnings(), b.laneWarnings(time.Now()), b.broker.Warnings(), b.control.warnings())...)
}

// laneWarnings returns the warnings of the lanes. A warning of several lanes is listed once.
func (b *Bridge) laneWarnings(now time.Time) []Problem {
	var all []Problem
	if p, ok := b.silence(now); ok {
		all = append(all, p)
	}
	for _, u := range b.lanes {
		for _, p := range u.warnings(now) {
			all = health.Merge(all, p)
		}
	}
	return all
}

func (u *laneUnit) warnings(now time.Time) []Problem {
	_, _, session := u.parts()
	if session == nil {
		return nil
	}
	var all []Problem
	lanes := []string{u.plan.ClientID}
	warn := func(at time.Time, text, advice string) {
		if !at.IsZero() && now.Sub(at) < warnFor {
			all = append(all, Problem{Component: "mqtt", Problem: text, Advice: advice, Since: at, Lanes: lanes})
		}
	}
	u.mu.Lock()
	strays := u.strays.at
	u.mu.Unlock()
	st := session.Status()
	warn(st.LostAt, sessionLost, mqttaccount.Advice(mqtt.ErrSessionLost))
	warn(st.TakenOverAt, "the broker closed the connection of these lanes and not of the others, and stayed up: another client may have used the client id",
		"check the broker's log for clients with this client id, and prevent devices from choosing it (EMQX: clientid_override in the devices' zone, docs/security.md). Messages that the other client acknowledged are lost; if its session was clean, so are all queued messages")
	warn(strays, "the broker delivers topics that are not subscribed any more; they go to quarantine as not_subscribed",
		"the session still has the subscription of an earlier configuration: add the topic to topics again, or end the subscription at the broker (EMQX: emqx ctl subscriptions del CLIENT_ID TOPIC); then run mqtt-nats-bridge quarantine replay")
	return all
}

// sessionLost is not logged here: the session itself logs it.
const sessionLost = "the broker has lost the session: the messages queued for these lanes are lost"

// strays records when the lane last received a message for a topic that is not subscribed.
type strays struct {
	count uint64
	at    time.Time
}

// noteStrays is called once per second.
func (u *laneUnit) noteStrays(now time.Time) {
	lane, _, _ := u.parts()
	if lane == nil {
		return
	}
	counts := lane.Counts()
	count := counts.Rejected[verdict.NotSubscribed]
	u.mu.Lock()
	defer u.mu.Unlock()
	if count > u.strays.count {
		u.strays.at = now
	}
	u.strays.count = count
}

// silence reports that no message has ever arrived although every lane of this bridge is
// subscribed.
func (b *Bridge) silence(now time.Time) (Problem, bool) {
	var since time.Time
	open := 0
	for _, u := range b.lanes {
		r := u.read()
		switch {
		case r.counts.Received > 0 || r.counts.Redelivered > 0 || r.counts.RetainedSkipped > 0:
			return Problem{}, false
		case r.elsewhere || u.plan.Retiring:
			continue
		case !r.session.Subscribed || now.Sub(r.session.Since) < silentAfter:
			return Problem{}, false
		}
		open++
		if r.session.Since.After(since) {
			since = r.session.Since
		}
	}
	if open == 0 {
		return Problem{}, false
	}
	return Problem{
		Component: "mqtt", Since: since, Advice: silenceAdvice(b.opts.Config),
		Problem: "every lane is subscribed and no message has ever arrived",
	}, true
}

func silenceAdvice(c *config.Config) string {
	const look = "; mqtt-nats-bridge check --connect checks the broker"
	switch {
	case c.Identity.Mode != config.Attested && c.MQTT.Share != "":
		return "make sure that devices publish to the configured topics, that the broker's ACL lets the bridge read them, and that the broker supports $share (without it, remove mqtt.share)" + look
	case c.Identity.Mode != config.Attested:
		return "make sure that devices publish to the configured topics and that the broker's ACL lets the bridge read them: mosquitto withholds messages without refusing the subscription" + look
	case c.MQTT.Share == config.ShareOff:
		return "make sure that the broker has the rule of deploy/emqx, which republishes to " + c.Identity.Prefix + "; a broker without rules, like mosquitto, needs identity.mode: off" + look
	}
	return "make sure that the broker has the rule of deploy/emqx, which republishes to " + c.Identity.Prefix + "; a broker without rules, like mosquitto, needs identity.mode: off, one without $share needs mqtt.share: off" + look
}

// warningLog logs each warning of the lanes when it begins.
type warningLog struct {
	log    zerolog.Logger
	logged map[string]bool
}

// note is called once per second.
func (w *warningLog) note(warnings []Problem) {
	now := map[string]bool{}
	for _, p := range warnings {
		now[p.Problem] = true
		if !w.logged[p.Problem] && p.Problem != sessionLost {
			line := w.log.Warn().Str("component", p.Component).Func(advice.Field(p.Advice))
			if len(p.Lanes) > 0 {
				line.Strs("lanes", p.Lanes)
			}
			line.Msg(p.Problem)
		}
	}
	w.logged = now
}
