package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/overrides"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/internal/registry"
	"mqtt-nats-bridge/subjects"
)

// Trace describes how the configuration routes one message.
type Trace struct {
	Topic    string  `json:"topic"`
	Fields   []Field `json:"fields"` // in the order of processing
	Rejected bool    `json:"rejected"`

	tenant, device string // of the topic
}

// Field is one line of a trace.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// String returns the topic and one indented line per field.
func (t Trace) String() string {
	var b strings.Builder
	fmt.Fprintln(&b, heading(t.Topic))
	for _, f := range t.Fields {
		fmt.Fprintf(&b, "  %-11s %s\n", f.Name, f.Value)
	}
	return b.String()
}

// heading returns the topic for a heading. It is not shortened, because it distinguishes the topics
// of one call.
func heading(topic string) string {
	if quoted := printable(topic); strings.HasPrefix(quoted, `"`) {
		return fmt.Sprintf("%q", topic)
	}
	return topic
}

func (t *Trace) add(name, format string, args ...any) {
	t.Fields = append(t.Fields, Field{Name: name, Value: fmt.Sprintf(format, args...)})
}

// printable quotes text that a terminal cannot display unchanged, and shortens long text.
func printable(text string) string {
	const most = 128
	if n := len(text); n > most {
		return fmt.Sprintf("%s… (%d bytes)", printable(strings.ToValidUTF8(text[:most/2], "")), n)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f || r == utf8.RuneError }) {
		return fmt.Sprintf("%q", text)
	}
	return text
}

// Topic sends a message with this topic through a lane that stores nothing and reports the result
// of the lane, so that it always equals the bridge's. Payload and rate are not checked, because
// they do not depend on the topic.
//
// With attested identity, a topic that begins with the prefix is used unchanged. Any other topic is
// a device's topic, and the trace assumes that the broker attests it with the correct CN.
func Topic(c *config.Config, plan *plan.Plan, topic string) (Trace, error) {
	t := Trace{Topic: topic}
	// A broker closes the connection [MQTT-3.3.2-2], [MQTT-1.5.3-1].
	if strings.ContainsAny(topic, "+#") || !utf8.ValidString(topic) || topic == "" {
		t.Rejected = true
		t.add("verdict", "no broker accepts it: a topic must be non-empty UTF-8 without the wildcards + and #")
		return t, nil
	}
	device, sent := t.attestation(c, plan.Rules, topic)
	t.route(c, plan.Rules, device)
	stored, err := deliver(plan.Rules, sent)
	if err != nil {
		return t, err
	}
	t.verdict(c, plan, stored)
	return t, nil
}

// attestation returns the device's topic and the topic that the bridge would receive.
func (t *Trace) attestation(c *config.Config, rules *bridge.Rules, topic string) (device, sent []byte) {
	device = []byte(topic)
	if rules.Attested == nil {
		return device, device
	}
	if !strings.HasPrefix(topic, rules.Attested.String()+"/") {
		cn := []byte("tenant/device")
		var m subjects.Match
		if _, ok := rules.Topics.Match(device, &m); ok && m.CheckDevice() == nil {
			cn = slices.Concat(m.Tenant(), []byte("/"), m.Device())
			t.add("cn", "must be %s, as the broker attests it", printable(string(cn)))
		}
		a := subjects.Attestation{Partition: []byte("0"), ID: []byte("0"), Millis: time.Now().UnixMilli(), CNHex: subjects.AppendCN(nil, cn)}
		return device, rules.Attested.Append(nil, a, device)
	}
	a, rest, err := rules.Attested.Cut(device)
	if err != nil {
		t.add("attested", "unreadable: %v", err)
		return nil, device
	}
	t.add("attested", "partition %s, id %s, received %s", a.Partition, a.ID, time.UnixMilli(a.Millis).UTC().Format("2006-01-02T15:04:05.000Z"))
	if !slices.Contains(c.Lanes.Partitions.List, string(a.Partition)) {
		t.add("lane", "none: lanes.partitions is %s", c.Lanes.Partitions)
	}
	t.cn(rules, a, rest)
	t.add("topic", "%s", printable(string(rest)))
	return rest, device
}

func (t *Trace) cn(rules *bridge.Rules, a subjects.Attestation, device []byte) {
	cn, err := subjects.DecodeCN(nil, a.CNHex)
	if err != nil {
		t.add("cn", "%v", err)
		return
	}
	var m subjects.Match
	if _, ok := rules.Topics.Match(device, &m); !ok {
		t.add("cn", "%s", printable(string(cn)))
		return
	}
	want := string(m.Tenant()) + "/" + string(m.Device())
	if string(cn) == want {
		t.add("cn", "%s, matches", printable(want))
		return
	}
	t.add("cn", "%s, must be %s", printable(string(cn)), printable(want))
}

// route shows the pattern, its captures, and how they are escaped.
func (t *Trace) route(c *config.Config, rules *bridge.Rules, device []byte) {
	var m subjects.Match
	i, ok := rules.Topics.Match(device, &m)
	if !ok {
		return
	}
	route := rules.Topics.Route(i)
	t.add("pattern", "%s", route.Pattern)
	t.tenant, t.device = string(m.Tenant()), string(m.Device())
	var captures, escapes []string
	for k, name := range route.Pattern.Captures() {
		value := m.At(k)
		captures = append(captures, name+"="+printable(string(value)))
		if token := subjects.AppendToken(nil, value); string(token) != string(value) {
			escapes = append(escapes, fmt.Sprintf("%s: %q becomes %s", name, value, token))
		}
	}
	t.add("captures", "%s", strings.Join(captures, " "))
	if len(escapes) > 0 {
		t.add("escapes", "%s", strings.Join(escapes, ", "))
	}
	if c.Topics[i].Format == config.Envelope {
		t.add("format", "envelope: a payload that is not JSON is rejected as bad_payload")
	}
}

// verdict reports where the message would be stored.
func (t *Trace) verdict(c *config.Config, plan *plan.Plan, m *bridge.Message) {
	reason, detail := header(m, bridge.HeaderReason), header(m, bridge.HeaderDetail)
	if reason == "" {
		t.add("subject", "%s", m.Subject)
		t.add("stream", "%s", cmp.Or(plan.StreamOf(string(m.Subject)), "not managed by the bridge"))
		t.add("verdict", "stored")
		t.limit(c)
		return
	}
	t.Rejected = true
	t.add("verdict", "rejected, %s: %s", reason, detail)
	if !c.Quarantine.Store {
		t.add("quarantine", "none: quarantine.store is false, the message is counted and acknowledged")
		return
	}
	t.add("quarantine", "%s", m.Subject)
	t.add("stream", "%s", c.Streams.Quarantine.Name)
}

// limit reports the device's limit, and the keys that change the limit and revoke its certificate.
func (t *Trace) limit(c *config.Config) {
	rate := "none"
	if r := c.Limits.Device; r.Rate > 0 {
		rate = fmt.Sprintf("%s messages per second, burst of %d", r.Rate, r.Effective())
	}
	t.add("limit", "%s", rate)
	if bucket := c.Limits.Bucket; bucket != "" {
		t.add("", "unless bucket %s has %s or %s", bucket,
			overrides.Key(limit.Override{Tenant: t.tenant, Device: t.device}), overrides.Key(limit.Override{Tenant: t.tenant, Devices: true}))
	}
	if r := c.Identity.Registry; r.Kind == config.RegistryKV {
		t.add("certificate", "must be active in bucket %s under %s", r.Bucket, registry.Key(t.tenant, t.device))
	} else if r.Kind == config.RegistryPostgres {
		t.add("certificate", "must be active in table %s", registry.Table)
	}
}

func header(m *bridge.Message, name string) string {
	for _, h := range m.Headers {
		if h.Name == name {
			return string(h.Value)
		}
	}
	return ""
}
