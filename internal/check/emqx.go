package check

import (
	"context"
	"slices"
	"strings"

	"mqtt-nats-bridge/internal/config"
	api "mqtt-nats-bridge/internal/emqx"
	"mqtt-nats-bridge/internal/plan"
)

// sampled is the maximum number of connected clients that are examined.
const sampled = 1000

// EMQX checks settings that can lose or leak messages through EMQX's API. Without the API it
// reports nothing.
func EMQX(ctx context.Context, c *config.Config, r *Report) {
	if c.MQTT.EMQX.API.IsZero() {
		return
	}
	client := plan.EMQXClient(c.MQTT.EMQX)
	defer client.Close()
	settings, err := client.Settings(ctx)
	if err != nil {
		r.Note("emqx api", "%v: the broker's queues are not watched", err)
		return
	}
	r.OK("emqx api", "%s answers", c.MQTT.EMQX.API)
	if s := settings.MQTT.SharedSubscriptionStrategy; s != api.HashClientID {
		r.Note("emqx api", "mqtt.shared_subscription_strategy is %s: set %s in emqx.conf, or order is lost while a lane's session is taken over", s, api.HashClientID)
	}
	if a := settings.Authorization; a.NoMatch != "deny" || a.DenyAction != "disconnect" || a.Cache.Enable {
		r.Note("emqx api", "authorization has no_match %s, deny_action %s, cache %t: after a restart EMQX acknowledges and drops messages; see docs/emqx.md, E1", a.NoMatch, a.DenyAction, a.Cache.Enable)
	}
	if c.Identity.Mode == config.Attested {
		attestation(ctx, client, c, r)
	}
	clientIDs(ctx, client, c, r)
}

// attestation checks that the attestation rule exists.
func attestation(ctx context.Context, client *api.Client, c *config.Config, r *Report) {
	rules, err := client.Rules(ctx)
	switch {
	case err != nil:
		r.Note("emqx rule", "%v", err)
	case !slices.ContainsFunc(rules, func(rule api.Rule) bool { return rule.RepublishesBelow(c.Identity.Prefix) }):
		r.Fail("emqx rule", "no enabled rule republishes to %s/…: add the rule attest of deploy/emqx/emqx.conf", c.Identity.Prefix)
	default:
		r.OK("emqx rule", "a rule republishes to %s/…", c.Identity.Prefix)
	}
}

// clientIDs infers from the connected clients whether a device can choose the client id of a lane,
// because the API does not report clientid_override of a zone.
func clientIDs(ctx context.Context, client *api.Client, c *config.Config, r *Report) {
	sessions, err := client.SampleSessions(ctx, sampled)
	if err != nil {
		r.Note("emqx client ids", "%v", err)
		return
	}
	devices, unclear := 0, 0
	for _, s := range sessions {
		if !strings.HasPrefix(s.Listener, "ssl:") && !strings.HasPrefix(s.Listener, "wss:") || s.Username == c.MQTT.Username {
			continue
		}
		devices++
		switch {
		case s.Username == "" || !strings.Contains(s.ClientID, s.Username):
			r.Fail("emqx client ids", "client %s of user %s on %s chose its own client id, so it could take over the session of a lane: set clientid_override in the zone of that listener, as deploy/emqx/emqx.conf does", s.ClientID, s.Username, s.Listener)
			return
		case s.ClientID == s.Username: // also chosen by the device, or peer_cert_as_clientid
			unclear++
		}
	}
	switch devices {
	case 0:
		r.Note("emqx client ids", "no device is connected, so it could not be determined whether a device can choose a lane's client id; deploy/emqx/emqx.conf prevents it with clientid_override")
	case unclear:
		r.Note("emqx client ids", "the client ids of %d connected devices equal their user names, which a device may have chosen: it could not be determined whether a device can choose a lane's client id; deploy/emqx/emqx.conf prevents it with clientid_override", devices)
	default:
		r.OK("emqx client ids", "the client ids of %d connected devices contain their user names", devices)
	}
}
