package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/schema"
)

// maxOverride bounds the value of an override, in bytes.
const maxOverride = 1 << 10

// ParseOverride reads the value of a live limit, such as {"rate": 50, "burst": 200}. It contains the
// keys of limits.device as JSON, with the same syntax and bounds. A rate is a number or a string
// ("30/m"). Without a burst, the burst is twice the rate. The token bucket must refill within idle,
// which is limits.idle. The error is a sentence that contains a correct example.
func ParseOverride(data []byte, idle time.Duration) (RateLimit, error) {
	var limit RateLimit
	if len(data) > maxOverride {
		return limit, fmt.Errorf("contains %d bytes; write JSON like {\"rate\": 50, \"burst\": 200}", len(data))
	}
	var values map[string]json.RawMessage
	decoder := json.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&values); err != nil || values == nil {
		return limit, fmt.Errorf("%s is not a JSON object; write it like {\"rate\": 50, \"burst\": 200}", schema.Quote(string(data)))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return limit, errors.New("contains more than one JSON object; write it like {\"rate\": 50, \"burst\": 200}")
	}
	keys := schema.Of(&limit)
	for key := range values {
		if !slices.Contains(keys.Keys, key) {
			return RateLimit{}, fmt.Errorf("%s is not known; write rate and burst", schema.Quote(key))
		}
	}
	if _, ok := values["rate"]; !ok {
		return limit, errors.New("has no rate; write it like {\"rate\": 50, \"burst\": 200}, with rate 0 for no limit")
	}
	for _, key := range keys.Keys {
		raw, ok := values[key]
		if !ok {
			continue
		}
		text := string(raw)
		if strings.HasPrefix(text, `"`) {
			if err := json.Unmarshal(raw, &text); err != nil {
				return RateLimit{}, fmt.Errorf("%s: %w", key, err)
			}
		}
		if err := keys.Leaves[key].Set(text); err != nil {
			return RateLimit{}, fmt.Errorf("%s: %w", key, err)
		}
	}
	if refill := limit.refill().Round(time.Second); refill > idle {
		return RateLimit{}, fmt.Errorf("takes %s to refill, longer than limits.idle (%s); lower the burst or raise limits.idle", schema.FormatDuration(refill), schema.FormatDuration(idle))
	}
	return limit, nil
}
