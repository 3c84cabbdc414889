package bridge

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/subjects"
)

const brokerID = "000660F22358AE4BB44B000005020002"

func TestVerdict(t *testing.T) {
	t.Parallel()
	t.Run("valid message is stored unchanged", testValidMessageIsStoredUnchanged)
	t.Run("attested message carries broker id and CN", testAttestedMessageCarriesBrokerIdAndCN)
	t.Run("oversize payload is quarantined truncated", testOversizePayloadIsQuarantinedTruncated)
	t.Run("truncated payload is never stored as whole", testTruncatedPayloadIsNeverStoredAsWhole)
}

func testValidMessageIsStoredUnchanged(t *testing.T) {
	t.Parallel()
	s := play(t)
	s.deliver(7, telemetry, "\x00\xff{")
	m := s.only()
	require.Equal(t, telemetrySubject, m.subject)
	require.Equal(t, "\x00\xff{", m.payload)
	require.Empty(t, m.headers, "headers cost bytes on every message")
	require.Regexp(t, `^lane-[0-9a-z]+$`, m.id)
}

func TestVerdictEscapedTopic(t *testing.T) {
	t.Parallel()
	for topic, subject := range map[string]string{
		"tenant/acme/device/d 1/a.b": "tenant.acme.device.d%201.a%2Eb",
		"tenant/acme/device/*/x":     "tenant.acme.device.%2A.x",
		"tenant/acme/device/>/x":     "tenant.acme.device.%3E.x",
		"tenant/acme/device/d/":      "tenant.acme.device.d.%00",
	} {
		s := play(t)
		s.deliver(1, topic, "")
		require.Equal(t, subject, s.only().subject)
		require.Equal(t, map[string]string{HeaderTopic: topic}, s.only().headers)
	}
}

func TestHeaderValueEscape(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"a\r\nNats-Msg-Id: x": "a%0D%0ANats-Msg-Id: x",
		" a ":                 "%20a%20",
		"\t":                  "%09",
		"":                    "",
		"a b":                 "a b",
	} {
		require.Equal(t, want, string(appendHeaderValue(nil, []byte(value))))
	}
}

func testAttestedMessageCarriesBrokerIdAndCN(t *testing.T) {
	t.Parallel()
	s := play(t, attested(t))
	at := time.Date(2026, 11, 23, 11, 59, 59, 45e6, time.UTC)
	s.deliver(7, vouched(brokerID, at.UnixNano(), "acme/dev-1", telemetry), "a")
	m := s.only()
	require.Equal(t, telemetrySubject, m.subject)
	require.Equal(t, brokerID, m.id)
	require.Equal(t, map[string]string{HeaderCN: "acme/dev-1", HeaderTime: "2026-11-23T11:59:59.045Z"}, m.headers)
	s.connect(true)
	s.deliver(9, vouched(brokerID, at.UnixNano(), "acme/dev-1", telemetry), "a", dup)
	require.Equal(t, brokerID, s.last().id, "the id is the broker's on every delivery")
}

func TestStampFormat(t *testing.T) {
	t.Parallel()
	var s stamp
	for ms, want := range map[int64]string{
		0:                   "1970-01-01T00:00:00.000Z",
		1:                   "1970-01-01T00:00:00.001Z",
		1795442951630:       "2026-11-23T14:09:11.630Z",
		253402300799999:     "9999-12-31T23:59:59.999Z",
		253402300800000:     "9999-12-31T23:59:59.000Z",
		9223372036854775807: "9999-12-31T23:59:59.807Z",
	} {
		require.Equal(t, want, string(s.format(ms)))
		require.Equal(t, want, string(s.format(ms)), "again, from the same second")
	}
}

// The certificate's name must equal the topic's tenant/device byte for byte.
func TestIdentityCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, cnHex string
		want        verdict.Reason
	}{
		{"its own", hexOf("acme/dev-1"), verdict.Accepted},
		{"its own in lower case digits", strings.ToLower(hexOf("acme/dev-1")), verdict.Accepted},
		{"another device", hexOf("acme/dev-2"), verdict.CNMismatch},
		{"another tenant", hexOf("acne/dev-1"), verdict.CNMismatch},
		{"another case", hexOf("acme/Dev-1"), verdict.CNMismatch},
		{"a prefix", hexOf("acme/dev-"), verdict.CNMismatch},
		{"more", hexOf("acme/dev-11"), verdict.CNMismatch},
		{"no slash", hexOf("acmexdev-1"), verdict.CNMismatch},
		{"more levels", hexOf("acme/dev-1/x"), verdict.CNMismatch},
		{"levels before", hexOf("x/acme/dev-1"), verdict.CNMismatch},
		{"a wildcard", hexOf("acme/+"), verdict.CNMismatch},
		{"all", hexOf("#"), verdict.CNMismatch},
		{"trailing space", hexOf("acme/dev-1 "), verdict.CNMismatch},
		{"a NUL behind", hexOf("acme/dev-1\x00"), verdict.CNMismatch},
		{"missing", "", verdict.CNMissing},
		{"undefined", "undefined", verdict.CNMissing},
		{"undefined in hex", hexOf("undefined"), verdict.CNMissing},
		{"not hex", "acme", verdict.CNMissing},
		{"half a byte", hexOf("acme/dev-1") + "6", verdict.CNMissing},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := play(t, attested(t))
			s.deliver(1, "bridge/v1/d/"+brokerID+"/1795442951630/"+c.cnHex+"/"+telemetry, "payload")
			m := s.only()
			require.Equal(t, "payload", m.payload)
			if c.want == verdict.Accepted {
				require.Equal(t, telemetrySubject, m.subject)
				return
			}
			require.Equal(t, "quarantine."+c.want.String()+"."+telemetrySubject, m.subject)
			require.Equal(t, c.want.String(), m.headers[HeaderReason])
			require.Equal(t, telemetry, m.headers[HeaderTopic])
			require.NotEmpty(t, m.headers[HeaderDetail])
			require.Equal(t, uint64(1), s.Counts().Rejected[c.want])
			require.Empty(t, s.conn.acked())
			s.stream.store(0)
			require.Equal(t, []uint16{1}, s.conn.acked())
			require.Equal(t, uint64(1), s.Counts().Quarantined[c.want])
		})
	}
}

func hexOf(cn string) string { return string(subjects.AppendCN(nil, []byte(cn))) }

func TestBadTopic(t *testing.T) {
	t.Parallel()
	for name, topic := range map[string]string{
		"no route":     "tenant/acme/devices/dev-1/telemetry",
		"too short":    "tenant/acme/device/dev-1",
		"empty tenant": "tenant//device/dev-1/telemetry",
		"empty device": "tenant/acme/device//telemetry",
		"too long":     "tenant/acme/device/dev-1/" + strings.Repeat("x", 1024),
		"escapes":      "tenant/acme/device/dev-1/" + strings.Repeat(".", 400),
		"NUL":          "tenant/acme/device/dev-1/\x00",
		"levels":       strings.Repeat("x/", 40),
		"huge":         strings.Repeat("\n", 60_000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := play(t, attested(t), func(o *LaneOptions) {
				edit(o.Limits, func(l *limit.Limits) { l.Quarantine = limit.Rate{Rate: 1, Burst: 3} })
			})
			for id := range uint16(10) {
				s.deliver(id+1, vouched(brokerID+strconv.Itoa(int(id)), noon, "acme/dev-1", topic), "payload")
			}
			all := s.stream.all()
			require.Len(t, all, 3, "bounded for each device")
			m := all[0]
			require.Equal(t, "quarantine.bad_topic", m.subject)
			require.Equal(t, "bad_topic", m.headers[HeaderReason])
			require.Equal(t, "acme/dev-1", m.headers[HeaderCN])
			require.Equal(t, string(appendHeaderValue(nil, []byte(topic[:min(len(topic), 1024)]))), m.headers[HeaderTopic])
			require.Equal(t, "payload", m.payload)
			require.Equal(t, uint64(10), s.Counts().Rejected[verdict.BadTopic])
			s.deliver(100, vouched(brokerID+"x", noon, "acme/dev-2", topic), "payload")
			require.Len(t, s.stream.all(), 4, "the limit does not apply to another device")
		})
	}
}

// A topic that matches no filter can only come from a subscription of an earlier configuration.
// This is not a device's error, so no such message is dropped.
func TestNotSubscribed(t *testing.T) {
	t.Parallel()
	bound := func(o *LaneOptions) {
		edit(o.Limits, func(l *limit.Limits) { l.Quarantine = limit.Rate{Rate: 1, Burst: 3} })
	}
	for name, c := range map[string]struct {
		topic, subject string
		adjust         []func(*LaneOptions)
	}{
		"plain":                    {"old/acme/dev-1", "quarantine.not_subscribed.old.acme.dev-1", nil},
		"plain, escaped":           {"old/dev 1/a.b", "quarantine.not_subscribed.old.dev%201.a%2Eb", nil},
		"plain, too long":          {"old/" + strings.Repeat("x", 1024), "quarantine.not_subscribed", nil},
		"attested, no attestation": {telemetry, "quarantine.not_subscribed." + telemetrySubject, []func(*LaneOptions){attested(t)}},
		"attested, another prefix": {"bridge/v0/" + telemetry, "quarantine.not_subscribed.bridge.v0." + telemetrySubject, []func(*LaneOptions){attested(t)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := play(t, append(c.adjust, bound)...)
			for id := range uint16(10) {
				s.deliver(id+1, c.topic, "payload")
			}
			all := s.stream.all()
			require.Len(t, all, 10)
			for i, m := range all {
				require.Equal(t, c.subject, m.subject)
				require.Equal(t, "not_subscribed", m.headers[HeaderReason])
				require.Equal(t, c.topic[:min(len(c.topic), 1024)], m.headers[HeaderTopic])
				s.stream.store(i)
			}
			require.EqualValues(t, 10, s.Counts().Quarantined[verdict.NotSubscribed])
			require.Len(t, s.conn.acked(), 10)
		})
	}
}

// A client that publishes to the topics of an earlier subscription cannot create unlimited
// subjects.
func TestNotSubscribedSubjects(t *testing.T) {
	t.Parallel()
	for name, adjust := range map[string]func(*LaneOptions){
		"plain": func(*LaneOptions) {}, "attested": attested(t),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := play(t, adjust, func(o *LaneOptions) { edit(o.Limits, func(l *limit.Limits) { l.Subjects = 3 }) })
			subjects := map[string]int{}
			for id := range uint16(10) {
				s.deliver(id+1, fmt.Sprintf("old/acme/dev-%d", id), "payload")
				subjects[s.last().subject]++
			}
			require.Len(t, subjects, 4)
			require.Equal(t, 7, subjects["quarantine.not_subscribed"])
		})
	}
}

func TestQuarantineTenant(t *testing.T) {
	t.Parallel()
	for topic, stored := range map[string]string{
		"quarantine/replay": "", "quarantine/bad_topic": "",
		"quarantine2/replay": "quarantine2.replay", "acme/quarantine": "acme.quarantine",
	} {
		s := play(t, func(o *LaneOptions) { o.Rules.Topics = routes(t, "{tenant}/{device}") })
		s.deliver(1, topic, "payload")
		if stored != "" {
			require.Equal(t, stored, s.only().subject)
			continue
		}
		require.Equal(t, "quarantine.bad_topic", s.only().subject)
		require.Equal(t, topic, s.only().headers[HeaderTopic])
	}
	// At its own level of the topic a tenant may have any name.
	s := play(t)
	s.deliver(1, "tenant/quarantine/device/replay/telemetry", "payload")
	require.Equal(t, "tenant.quarantine.device.replay.telemetry", s.only().subject)
}

// A client that bypasses the broker's rule is limited like a device.
func TestBrokenAttestation(t *testing.T) {
	t.Parallel()
	for name, topic := range map[string]string{
		"short":     "bridge/v1/d/" + brokerID + "/1/41",
		"no id":     "bridge/v1/d//1/41/" + telemetry,
		"bad time":  "bridge/v1/d/" + brokerID + "/now/41/" + telemetry,
		"partition": "bridge/v1//" + brokerID + "/1/41/" + telemetry,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := play(t, attested(t), func(o *LaneOptions) {
				edit(o.Limits, func(l *limit.Limits) { l.Quarantine = limit.Rate{Rate: 1, Burst: 3} })
			})
			for id := range uint16(10) {
				s.deliver(id+1, topic, "payload")
			}
			all := s.stream.all()
			require.Len(t, all, 3)
			require.Equal(t, "quarantine.bad_topic", all[0].subject)
			require.Equal(t, topic, all[0].headers[HeaderTopic])
			require.NotEmpty(t, all[0].id)
			require.NotEqual(t, all[0].id, all[1].id)
			require.Equal(t, uint64(7), s.Counts().QuarantineSkipped)
		})
	}
}

func testOversizePayloadIsQuarantinedTruncated(t *testing.T) {
	t.Parallel()
	s := play(t)
	s.deliver(1, telemetry, strings.Repeat("x", 1024))
	require.Equal(t, telemetrySubject, s.only().subject)
	s.deliver(2, telemetry, strings.Repeat("x", 1025))
	m := s.last()
	require.Equal(t, "quarantine.payload_too_large."+telemetrySubject, m.subject)
	require.Len(t, m.payload, 1024)
	require.Contains(t, m.headers[HeaderDetail], "1025")
	require.Contains(t, m.headers[HeaderDetail], "first 1024 bytes")
}

// A tap delivers only the beginning of a packet over its maximum size. That must never be stored as
// the whole message, whatever the two limits are.
func testTruncatedPayloadIsNeverStoredAsWhole(t *testing.T) {
	t.Parallel()
	s := play(t)
	s.deliver(1, telemetry, strings.Repeat("x", 900), cutTo(600))
	m := s.only()
	require.Equal(t, "quarantine.payload_too_large."+telemetrySubject, m.subject)
	require.Len(t, m.payload, 600)
	require.Contains(t, m.headers[HeaderDetail], "first 600 bytes")
}

func TestEnvelopeSender(t *testing.T) {
	t.Parallel()
	for topic, want := range map[string]string{
		"tenant/acme/device/dev-1/telemetry":         `"tenant_id":"acme","device_id":"dev-1","msg_type":"telemetry"`,
		"tenant/acme/device/dev-1/shadow/reported":   `"tenant_id":"acme","device_id":"dev-1","msg_type":"shadow/reported"`,
		"tenant/acme/device/acme/shadow/reported":    `"tenant_id":"acme","device_id":"acme","msg_type":"shadow/reported"`,
		"tenant/acme/device/device/commands/ack":     `"tenant_id":"acme","device_id":"device","msg_type":"commands/ack"`,
		"tenant/device/device/device/commands/ack":   `"tenant_id":"device","device_id":"device","msg_type":"commands/ack"`,
		"tenant/a\"\\b/device/ü\x01/shadow/reported": `"tenant_id":"a\"\\b","device_id":"ü\u0001","msg_type":"shadow/reported"`,
		"tenant/<&>/device/\xff/telemetry":           `"tenant_id":"<&>","device_id":"` + "\\ufffd" + `","msg_type":"telemetry"`,
	} {
		for _, vouch := range []bool{false, true} {
			s := play(t, envelopes)
			sent, username, ts := topic, `""`, noon/1e6
			if vouch {
				attested(t)(&s.opts)
				parts := strings.Split(topic, "/")
				cn := parts[1] + "/" + parts[3]
				username = string(appendJSONString(nil, []byte(cn)))
				ts = noon/1e6 - 1500
				sent = vouched(brokerID, ts*1e6, cn, topic)
			}
			s.deliver(1, sent, ` {"v": 1.50} `)
			require.Contains(t, s.only().payload, want)
			require.JSONEq(t, `{"topic":`+string(appendJSONString(nil, []byte(topic)))+`,`+want+
				`,"username":`+username+`,"payload":{"v":1.50},"ts":`+formatInt(ts)+`}`, s.only().payload)
			require.Contains(t, s.only().payload, `"payload": {"v": 1.50} ,`, "byte for byte")
		}
	}
}

func TestEnvelopeInvalidJSON(t *testing.T) {
	t.Parallel()
	for payload, why := range map[string]string{
		"": "unexpected end", "x": "invalid character 'x'", "{": "unexpected end", `{"a":1}}`: "at byte 8 of 8",
		"\xff": "at byte 1 of 1", "{}{}": "at byte 3 of 4", `{"a":"` + "\xff" + `"}`: "not UTF-8", "\xef\xbb\xbf{}": "at byte 1",
	} {
		s := play(t, envelopes)
		s.deliver(1, telemetry, payload)
		require.Contains(t, s.only().headers[HeaderDetail], why)
		require.Equal(t, "quarantine.bad_payload."+telemetrySubject, s.only().subject)
		require.Equal(t, payload, s.only().payload, "as the device sent it")
	}
}
