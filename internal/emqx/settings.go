package emqx

import "context"

// Settings are the parts of EMQX's configuration that a client of its API can see and
// that decide what it loses. The settings of zones are not among them.
type Settings struct {
	// MQTT applies where a zone sets nothing.
	MQTT struct {
		SharedSubscriptionStrategy string `json:"shared_subscription_strategy"`
		ClientIDOverride           any    `json:"clientid_override"` // "disabled", or an expression
		PeerCertAsClientID         string `json:"peer_cert_as_clientid"`
		UseUsernameAsClientID      bool   `json:"use_username_as_clientid"`
	}
	// GroupStrategies are those of single $share groups.
	GroupStrategies map[string]string
	Authorization   Authorization
}

// Authorization is how EMQX decides what no rule decides, and how it refuses.
type Authorization struct {
	NoMatch    string `json:"no_match"`
	DenyAction string `json:"deny_action"`
	Cache      struct {
		Enable bool `json:"enable"`
	} `json:"cache"`
}

// Settings reads EMQX's effective configuration.
func (c *Client) Settings(ctx context.Context) (Settings, error) {
	var s Settings
	if err := c.get(ctx, "/configs/global_zone", nil, &s); err != nil {
		return s, err
	}
	var broker struct {
		Groups map[string]struct {
			Strategy string `json:"strategy"`
		} `json:"shared_subscription_group"`
	}
	if err := c.get(ctx, "/configs/broker", nil, &broker); err != nil {
		return s, err
	}
	s.GroupStrategies = map[string]string{}
	for name, group := range broker.Groups {
		s.GroupStrategies[name] = group.Strategy
	}
	return s, c.get(ctx, "/authorization/settings", nil, &s.Authorization)
}

// HashClientID is the strategy with which one member of a group gets all messages of a
// publisher.
const HashClientID = "hash_clientid"

// Strategy returns how a $share group's messages are distributed.
func (s *Settings) Strategy(group string) string {
	if own := s.GroupStrategies[group]; own != "" {
		return own
	}
	return s.MQTT.SharedSubscriptionStrategy
}
