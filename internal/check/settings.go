package check

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/config"
)

// maker is whose broker it is, as far as that shows.
type maker int

const (
	unknownMaker maker = iota
	emqx
	mosquitto
)

// leastEMQX has client_attrs_init as deploy/emqx/emqx.conf uses it.
const leastEMQX = "5.8.5"

// version asks for the retained version below $SYS. A broker may refuse that, or
// drop the connection over it, so it comes last and decides nothing.
func (b *brokerCheck) version(s *session) maker {
	r := b.report
	topic, text, ok := s.retained("$SYS/broker", time.Second, "$SYS/brokers/+/version", "$SYS/broker/version")
	if !ok {
		r.Note("mqtt broker", "its version does not show ($SYS is not granted, or empty): attested topics need EMQX %s or later", leastEMQX)
		return unknownMaker
	}
	if rest, ok := strings.CutPrefix(text, "mosquitto version "); ok {
		r.OK("mqtt broker", "mosquitto %s", rest)
		if b.config.Identity.Mode == config.Attested {
			r.Note("mqtt broker", "identity.mode is attested, which takes a rule of EMQX: mosquitto has none, so nothing may arrive")
		}
		return mosquitto
	}
	if !strings.HasPrefix(topic, "$SYS/brokers/") { // EMQX has a subtree for each node
		r.OK("mqtt broker", "version %s", text)
		return unknownMaker
	}
	if before(text, leastEMQX) {
		r.Note("mqtt broker", "EMQX %s is older than %s: it lacks client_attrs_init as deploy/emqx/emqx.conf uses it, so its rule cannot tell a spoofed CN", text, leastEMQX)
		return emqx
	}
	r.OK("mqtt broker", "EMQX %s", text)
	return emqx
}

// before compares versions by their first three numbers.
func before(a, b string) bool {
	as, bs := numbers(a), numbers(b)
	for i := range as {
		if c := cmp.Compare(as[i], bs[i]); c != 0 {
			return c < 0
		}
	}
	return false
}

func numbers(version string) (n [3]int) {
	for i, part := range strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3) {
		digits := strings.TrimRightFunc(part, func(r rune) bool { return r < '0' || r > '9' })
		if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
			digits = digits[:end]
		}
		n[i], _ = strconv.Atoi(digits) // what is no number counts as 0
	}
	return n
}

// setting is one that loses messages where it is not as wanted, and that MQTT
// 3.1.1 does not show to a client.
type setting struct{ key, want, why string }

// emqxSettings are those of the zone that the bridge connects in. The values are
// those of deploy/emqx/emqx.conf; the effects were measured on EMQX 5.8.9.
func emqxSettings() []setting {
	return []setting{
		{"mqtt.max_mqueue_len", "200000", "the default of 1000 drops the oldest message while the bridge or NATS is away"},
		{"mqtt.max_inflight", "1000", "the default of 32 slows the bridge down"},
		{"mqtt.session_expiry_interval", "24h", "after it the broker forgets the session and all it holds"},
		{"mqtt.retry_interval", "infinity", "otherwise the broker sends unacknowledged messages again and again during an outage"},
		{"force_shutdown.max_heap_size", "2GB", "the default of 32MB kills an offline session of 20,000 to 40,000 messages without a log line"},
	}
}

func mosquittoSettings() []setting {
	return []setting{
		{"max_queued_messages", "0", "the default of 1000 drops new messages while the bridge or NATS is away"},
		{"max_inflight_messages", "1000", "the default of 20 slows the bridge down"},
		{"persistence", "true", "otherwise a restart of the broker loses the session and all it holds"},
	}
}

// settings names what cannot be seen: silence would pass for "checked".
func (b *brokerCheck) settings(who maker) {
	list, where := emqxSettings(), "emqx.conf"
	if who == mosquitto {
		list, where = mosquittoSettings(), "mosquitto.conf"
		// Seen with mosquitto 2.0.11.
		b.report.Note("mqtt subscribe", "an acl_file of mosquitto grants every filter and withholds the messages: verify that %s may read these topics", user(b.config.MQTT.Username))
	}
	b.report.Note("mqtt settings", "a client cannot see these; verify them in the broker's %s:", where)
	for _, s := range list {
		b.report.Note("mqtt settings", "%s = %s: %s", s.key, s.want, s.why)
	}
}
