package emqx

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
)

// Rule is a rule of EMQX's rule engine.
type Rule struct {
	Enabled bool `json:"enable"`
	// Actions are objects or names of data integrations.
	Actions []json.RawMessage `json:"actions"`
}

// Rules returns the enabled rules that are loaded.
func (c *Client) Rules(ctx context.Context) ([]Rule, error) {
	var answer page[Rule]
	err := c.get(ctx, "/rules", url.Values{"enable": {"true"}, "limit": {"1000"}}, &answer)
	return answer.Data, err
}

// RepublishesBelow reports whether the rule republishes to topics below prefix.
func (r *Rule) RepublishesBelow(prefix string) bool {
	for _, action := range r.Actions {
		var a struct {
			Function string
			Args     struct{ Topic string }
		}
		if json.Unmarshal(action, &a) != nil {
			continue // the name of a data integration
		}
		if r.Enabled && a.Function == "republish" && strings.HasPrefix(a.Args.Topic, prefix+"/") {
			return true
		}
	}
	return false
}
