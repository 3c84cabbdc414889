package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/mqtt"
)

// leastEMQX is the first version with client_attrs_init as deploy/emqx/emqx.conf uses it.
const leastEMQX = "5.8.5"

// version reads the retained version below $SYS. A broker may refuse that or close the connection,
// so it is the last step and not a failure.
func (b *brokerCheck) version(s *session) (mosquitto bool) {
	r := b.report
	// EMQX publishes its version periodically and not retained, and its default ACL refuses the
	// subscription. Then nothing is reported.
	topic, text, ok := s.retained("$SYS/broker", time.Second, "$SYS/brokers/+/version", "$SYS/broker/version")
	if !ok {
		return false
	}
	rest, mosquitto := strings.CutPrefix(text, "mosquitto version ")
	switch {
	case mosquitto:
		r.OK("mqtt broker", "mosquitto %s", rest)
		if b.config.Identity.Mode == config.Attested {
			r.Note("mqtt broker", "identity.mode is attested, which needs an EMQX rule: mosquitto has no rules, so messages may never arrive")
		}
	case !strings.HasPrefix(topic, "$SYS/brokers/"): // EMQX has a subtree for each node
		r.OK("mqtt broker", "version %s", text)
	case before(text, leastEMQX):
		r.Note("mqtt broker", "EMQX %s is older than %s: it lacks client_attrs_init as deploy/emqx/emqx.conf uses it, so its rule cannot detect a spoofed CN", text, leastEMQX)
	default:
		r.OK("mqtt broker", "EMQX %s", text)
	}
	return mosquitto
}

// before compares versions by their first three numbers.
func before(a, b string) bool { return slices.Compare(numbers(a), numbers(b)) < 0 }

func numbers(version string) []int {
	n := make([]int, 3) // a number that is missing counts as 0
	_, _ = fmt.Sscanf(strings.TrimPrefix(version, "v"), "%d.%d.%d", &n[0], &n[1], &n[2])
	return n
}

// setting is a broker setting that can lose messages if it has another value, and that MQTT 3.1.1
// does not report to a client.
type setting struct{ key, want, why string }

// emqxSettings contains the settings of the bridge's zone. The values are from
// deploy/emqx/emqx.conf; the effects were measured on EMQX 5.8.9.
var emqxSettings = []setting{
	{"mqtt.max_mqueue_len", "200000", "the default of 1000 drops the oldest message while the bridge or NATS is unreachable"},
	{"mqtt.max_inflight", "1000", "the default of 32 slows the bridge down"},
	{"mqtt.session_expiry_interval", "24h", "after it the broker forgets the session and all it contains"},
	{"mqtt.retry_interval", "infinity", "otherwise the broker resends unacknowledged messages repeatedly during an outage"},
	{"force_shutdown.max_heap_size", "2GB", "the default of 32MB kills an offline session of 20,000 to 40,000 messages without a log line"},
}

var mosquittoSettings = []setting{
	{"max_queued_messages", "0", "the default of 1000 drops new messages while the bridge or NATS is unreachable"},
	{"max_inflight_messages", "1000", "the default of 20 slows the bridge down"},
	{"persistence", "true", "otherwise a restart of the broker loses the session and all it contains"},
}

// settings lists the settings that cannot be checked; otherwise an operator could assume that they
// were.
func (b *brokerCheck) settings(mosquitto bool) {
	list, where := emqxSettings, "emqx.conf"
	if mosquitto {
		list, where = mosquittoSettings, "mosquitto.conf"
		// Observed with mosquitto 2.0.11.
		b.report.Note("mqtt subscribe", "an acl_file of mosquitto grants every filter and withholds the messages: verify that %s may read these topics", b.who())
	}
	b.report.Note("mqtt settings", "these are not visible to a client; verify them in the broker's %s:", where)
	for _, s := range list {
		b.report.Note("mqtt settings", "%s = %s: %s", s.key, s.want, s.why)
	}
}

// emqxDefaultInflight is the default of mqtt.max_inflight.
const emqxDefaultInflight = 32

// limits connects again with MQTT 5, whose CONNACK contains limits that also apply to MQTT 3.1.1.
func (b *brokerCheck) limits(ctx context.Context, share bool) {
	conn, err := mqtt.Dial(ctx, b.server, b.options)
	if err != nil {
		return
	}
	defer conn.Close()
	m, r := &b.config.MQTT, b.report
	// Use another client id: EMQX refuses one whose last connection has just ended (0x89,
	// clientid_registration_throttled).
	announced, err := announce(conn, b.options.ClientID+"-5", m.Username, m.Password.Reveal())
	switch {
	case errors.Is(err, errNotMQTT5):
		if share {
			b.probeShare(ctx)
		}
		return
	case err != nil:
		r.Note("mqtt limits", "the broker's limits could not be read: CONNECT with MQTT 5: %v", err)
		return
	}
	b.reportLimits(&announced, share)
}

func (b *brokerCheck) reportLimits(announced *packets.Properties, share bool) {
	r := b.report
	if share && announced.SharedSubAvailableFlag && announced.SharedSubAvailable == 0 {
		r.Fail("mqtt share", "the broker does not support $share, so no messages would arrive: %s", b.shareAdvice())
	}
	switch inflight := cmp.Or(announced.ReceiveMaximum, 65_535); { // the default [§3.2.2.3.3]
	case inflight == emqxDefaultInflight && b.config.Identity.Mode == config.Attested:
		r.Fail("mqtt limits", "Receive Maximum is %d, EMQX's default: the bridge's listener is in a zone that was not set up for it, whose queue keeps 1,000 messages and drops the oldest beyond while the bridge or NATS is unreachable: give the listener the zone of deploy/emqx/emqx.conf; sessions that exist keep their limits until they end (sessions clear)", inflight)
	case inflight < 1000:
		r.Note("mqtt limits", "Receive Maximum is %d messages in flight per lane, which slows the bridge down: raise the broker's in-flight window to 1000", inflight)
	default:
		r.OK("mqtt limits", "Receive Maximum %d", inflight)
	}
	if limit, payload := int64(announced.MaximumPacketSize), int64(b.config.Limits.Payload); limit > 0 && limit < payload {
		r.Note("mqtt limits", "Maximum Packet Size is %d bytes, below limits.payload (%d): the broker does not deliver longer messages: raise it (EMQX: mqtt.max_packet_size)", limit, payload)
	}
}

func (b *brokerCheck) shareAdvice() string {
	if b.config.Identity.Mode == config.Attested {
		return "set mqtt.share: off"
	}
	return "remove mqtt.share and use one lane"
}

// probeShare tests $share on a broker without MQTT 5. A broker that does not support $share grants
// it as a literal filter, which no topic matches.
func (b *brokerCheck) probeShare(ctx context.Context) {
	conn, _, err := mqtt.Connect(ctx, b.server, b.options, true)
	if err != nil {
		return
	}
	defer conn.Close()
	r, s, id := b.report, &session{conn: conn}, b.options.ClientID
	defer s.disconnect()
	plain, shared := id+"/plain", id+"/shared"
	codes, err := s.subscribe([]string{plain, "$share/" + id + "/" + shared})
	if err == nil && codes[0] < 0x80 && codes[1] < 0x80 {
		got := s.roundTrip([]string{shared, plain}, 2*time.Second)
		switch {
		case got[shared]:
			r.OK("mqtt share", "the broker supports $share")
			return
		case got[plain]:
			r.Fail("mqtt share", "the broker grants $share but does not deliver messages for it: %s", b.shareAdvice())
			return
		}
	}
	r.Note("mqtt share", "the broker does not accept MQTT 5, and may not support $share; that could not be tested with the topics %s/…: if no messages arrive, %s", id, b.shareAdvice())
}
