package emqx

import "context"

// Settings contains the parts of EMQX's configuration that the API returns and that determine which
// messages EMQX loses. The API does not return the settings of zones.
type Settings struct {
	// MQTT contains the defaults for zones.
	MQTT struct {
		SharedSubscriptionStrategy string `json:"shared_subscription_strategy"`
	}
	// GroupStrategies contains the strategies of individual $share groups.
	GroupStrategies map[string]string
	Authorization   Authorization
}

// Authorization configures the decision if no rule matches, and how EMQX refuses.
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

// HashClientID is the strategy that sends all messages of a publisher to the same member of a group.
const HashClientID = "hash_clientid"

// Strategy returns the strategy by which a $share group's messages are distributed.
func (s *Settings) Strategy(group string) string {
	if own := s.GroupStrategies[group]; own != "" {
		return own
	}
	return s.MQTT.SharedSubscriptionStrategy
}
