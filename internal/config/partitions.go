package config

import (
	"fmt"
	"strings"

	"mqtt-nats-bridge/internal/schema"
)

const hexDigits = "0123456789abcdef"

// auto is the value for partitions that are distributed among the replicas by leases.
const auto = "auto"

// Partitions are the partitions that a bridge may serve.
type Partitions struct {
	List []string // hex digits, ascending, each once
	// Auto means that List contains all partitions, and that the bridge serves those that it
	// has leased.
	Auto bool
}

// Kind returns the name of the type in the reference.
func (p *Partitions) Kind() string { return "partitions" }

// Parse reads auto, or digits and ranges separated by commas: 0-f, a, 0-3,8-b.
func (p *Partitions) Parse(text string) error {
	if text == auto {
		*p = Partitions{List: strings.Split(hexDigits, ""), Auto: true}
		return nil
	}
	bad := fmt.Errorf("%s is not a list of partitions; write hex digits like 0-f, 0-7, a or 0-3,8-b, or auto", schema.Quote(text))
	var taken [len(hexDigits)]bool
	for part := range strings.SplitSeq(strings.ToLower(text), ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			last = first
		}
		if len(first) != 1 || len(last) != 1 {
			return bad
		}
		from, to := strings.Index(hexDigits, first), strings.Index(hexDigits, last)
		if from < 0 || to < 0 {
			return bad
		}
		if from > to {
			return fmt.Errorf("%s is in descending order; write %s-%s", schema.Quote(part), last, first)
		}
		for i := from; i <= to; i++ {
			if taken[i] {
				return fmt.Errorf("%s names partition %c twice; each can have one lane", schema.Quote(text), hexDigits[i])
			}
			taken[i] = true
		}
	}
	*p = Partitions{}
	for i, t := range taken {
		if t {
			p.List = append(p.List, hexDigits[i:i+1])
		}
	}
	return nil
}

// String returns the partitions with ranges, such as 0-3,8-b.
func (p Partitions) String() string {
	if p.Auto {
		return auto
	}
	var parts []string
	for i := 0; i < len(p.List); {
		j := i
		for j+1 < len(p.List) && strings.Index(hexDigits, p.List[j+1]) == strings.Index(hexDigits, p.List[j])+1 {
			j++
		}
		if i == j {
			parts = append(parts, p.List[i])
		} else {
			parts = append(parts, p.List[i]+"-"+p.List[j])
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}

// ClientIDs returns the MQTT client ids, one per lane. They are client_id-p<partition> in the order
// of Lanes.Partitions, or client_id-0 … with plain topics. With exact_client_id, the only one is
// client_id itself.
func (c *Config) ClientIDs() []string {
	if c.MQTT.ExactID {
		return []string{c.MQTT.ClientID}
	}
	var ids []string
	for _, p := range c.Lanes.Partitions.List {
		ids = append(ids, c.MQTT.ClientID+"-p"+p)
	}
	for i := range c.Lanes.Count + c.Lanes.Retiring {
		ids = append(ids, fmt.Sprintf("%s-%d", c.MQTT.ClientID, i))
	}
	return ids
}
