package bridge

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/certificates"
	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/subjects"
)

func formatInt(n int64) string { return strconv.FormatInt(n, 10) }

func envelopes(o *LaneOptions) { o.Rules.Formats = []Format{Envelope, Envelope, Envelope} }

func TestQuarantine(t *testing.T) {
	t.Parallel()
	t.Run("bound is per device", testBoundIsPerDevice)
	t.Run("disabled quarantine counts and acks", testDisabledQuarantineCountsAndAcks)
	t.Run("skipped message stays skipped on redelivery", testSkippedMessageStaysSkippedOnRedelivery)
	t.Run("refused message keeps its id", testRefusedMessageKeepsItsId)
	t.Run("refusal beyond the bound is counted and acked", testRefusalBeyondTheBoundIsCountedAndAcked)
}

func testBoundIsPerDevice(t *testing.T) {
	t.Parallel()
	s := play(t, func(o *LaneOptions) {
		edit(o.Limits, func(l *limit.Limits) { l.Quarantine = limit.Rate{Rate: 1, Burst: 2} })
	})
	big := strings.Repeat("x", 2000)
	for id := range uint16(5) {
		s.deliver(id+1, deviceTopic("acme/loud"), big)
	}
	s.deliver(6, deviceTopic("acme/quiet"), big)
	require.Len(t, s.stream.all(), 3)
	require.Equal(t, "quarantine.payload_too_large.tenant.acme.device.quiet.telemetry", s.last().subject)
	require.Equal(t, uint64(3), s.Counts().QuarantineSkipped)
	require.Equal(t, uint64(6), s.Counts().Rejected[verdict.PayloadTooLarge])
	s.tick(time.Second)
	s.deliver(7, deviceTopic("acme/loud"), big)
	require.Len(t, s.stream.all(), 4)
	require.Empty(t, s.conn.acked())
	for i := range 4 {
		s.stream.store(i)
	}
	require.Equal(t, []uint16{1, 2, 3, 4, 5, 6, 7}, s.conn.acked())
}

// If the topics have no {device}, each topic has the bound of a device.
func TestQuarantineFixedDevice(t *testing.T) {
	t.Parallel()
	s := play(t, func(o *LaneOptions) {
		pattern, err := subjects.ParsePattern("sensors/{name}")
		require.NoError(t, err)
		pattern, err = pattern.WithDevice("home", "hub")
		require.NoError(t, err)
		o.Rules.Topics, err = subjects.NewSet([]subjects.Route{{Pattern: pattern}})
		require.NoError(t, err)
		edit(o.Limits, func(l *limit.Limits) { l.Quarantine = limit.Rate{Rate: 1, Burst: 2} })
	})
	big := strings.Repeat("x", 2000)
	for id := range uint16(5) {
		s.deliver(id+1, "sensors/loud", big)
	}
	s.deliver(6, "sensors/quiet", big)
	require.Len(t, s.stream.all(), 3)
	require.Equal(t, "quarantine.payload_too_large.sensors.quiet", s.last().subject)
	s.deliver(7, "sensors/quiet", "small")
	require.Equal(t, "sensors.quiet", s.last().subject)
}

func testDisabledQuarantineCountsAndAcks(t *testing.T) {
	t.Parallel()
	s := play(t, func(o *LaneOptions) { o.Rules.Quarantine = false })
	s.deliver(1, "elsewhere", "a")
	s.deliver(0, "elsewhere", "a", qos0)
	require.Empty(t, s.stream.all())
	require.Equal(t, []uint16{1}, s.conn.acked())
	require.Equal(t, uint64(2), s.Counts().QuarantineSkipped)
}

// noDevice matches a topic pattern and is rejected as bad_topic.
const noDevice = "tenant/acme/device//telemetry"

func testSkippedMessageStaysSkippedOnRedelivery(t *testing.T) {
	t.Parallel()
	s := play(t, func(o *LaneOptions) {
		edit(o.Limits, func(l *limit.Limits) { l.Quarantine = limit.Rate{Rate: 1, Burst: 1} })
	})
	s.deliver(1, noDevice, "a")
	s.deliver(2, noDevice, "b")
	s.pass(time.Minute)
	s.connect(true)
	s.deliver(1, noDevice, "a", dup)
	s.deliver(2, noDevice, "b", dup)
	require.Len(t, s.stream.all(), 1)
	s.stream.store(0)
	require.Equal(t, []uint16{1, 2}, s.conn.acked())
}

func testRefusedMessageKeepsItsId(t *testing.T) {
	t.Parallel()
	s := play(t, attested(t))
	topic := "tenant/acme/device/dev 1/telemetry"
	s.deliver(1, vouched(brokerID, noon, "acme/dev 1", topic), "payload", func(d *Delivery) { d.Retain = true }, forward(s))
	s.deliver(2, vouched(brokerID+"3", noon, "acme/dev-2", deviceTopic("acme/dev-2")), "next")
	s.stream.refuse(0)
	s.stream.store(1)
	require.Empty(t, s.conn.acked(), "not stored yet")
	m := s.last()
	require.Equal(t, "quarantine.refused.tenant.acme.device.dev%201.telemetry", m.subject)
	require.Equal(t, "payload", m.payload)
	require.Equal(t, brokerID, m.id)
	require.Equal(t, map[string]string{
		HeaderReason: "refused", HeaderDetail: "JetStream refused it: message size exceeds maximum allowed",
		HeaderTopic: topic, HeaderCN: "acme/dev 1", HeaderTime: "2026-11-23T12:00:00.000Z", HeaderRetained: "true",
	}, m.headers)
	s.stream.store(2)
	require.Equal(t, []uint16{1, 2}, s.conn.acked())
	c := s.Counts()
	require.Equal(t, uint64(1), c.Rejected[verdict.Refused])
	require.Equal(t, uint64(1), c.Quarantined[verdict.Refused])
	require.Equal(t, uint64(1), c.Stored)
	s.connect(true)
	s.deliver(1, vouched(brokerID, noon, "acme/dev 1", topic), "payload", dup, retained)
	require.Equal(t, []uint16{1}, s.conn.acked(), "settled")
}

func forward(s *script) with {
	s.opts.Rules.ForwardRetained = true
	return func(*Delivery) {}
}

func TestRefusedCopy(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 900)
	t.Run("is cut to fit, then minimal", func(t *testing.T) {
		t.Parallel()
		s := play(t)
		s.deliver(1, telemetry, long)
		s.stream.refuse(0)
		s.stream.refuse(1)
		m := s.last()
		require.Equal(t, "quarantine.refused."+telemetrySubject, m.subject)
		require.Equal(t, long[:smallPayload], m.payload)
		require.Equal(t, "900", m.headers[HeaderSize])
		require.Equal(t, telemetry, m.headers[HeaderTopic])
		s.stream.refuse(2)
		m = s.last()
		require.Empty(t, m.payload)
		require.Equal(t, map[string]string{HeaderReason: "refused"}, m.headers)
		require.Empty(t, s.conn.acked())
		s.stream.store(3)
		require.Equal(t, []uint16{1}, s.conn.acked())
	})
	t.Run("omits a long topic instead of cutting it", func(t *testing.T) {
		t.Parallel()
		s := play(t)
		s.deliver(1, telemetry+strings.Repeat("y", smallValue), "p")
		s.stream.refuse(0)
		s.stream.refuse(1)
		require.NotContains(t, s.last().headers, HeaderTopic)
		require.Equal(t, verdict.BadTopic, s.restore(rejected(t, s.last())).Reason)
	})
	t.Run("of a full subject goes under its own", func(t *testing.T) {
		t.Parallel()
		s := play(t)
		full := func(i int) {
			m := s.stream.all()[i]
			s.Settle(&Result{Token: m.token, Refused: fmt.Errorf("by the server: %w", ErrSubjectFull), Message: m.message()})
		}
		s.deliver(1, telemetry, long)
		s.deliver(2, telemetry, long)
		for i := range 4 {
			full(i)
		}
		m := s.stream.all()[4]
		require.Regexp(t, `^quarantine\.refused\.overflow\.[0-9a-f]{16}$`, m.subject)
		require.NotEqual(t, m.subject, s.stream.all()[5].subject)
		require.Equal(t, long, m.payload)
		require.Equal(t, telemetry, m.headers[HeaderTopic])
		restored := s.restore(rejected(t, m))
		require.Equal(t, verdict.Accepted, restored.Reason, restored.Detail)
		require.Equal(t, telemetrySubject, string(restored.Message.Subject))
		s.stream.refuse(4) // this time for its size
		require.Equal(t, m.subject, s.last().subject)
		require.Equal(t, long[:smallPayload], s.last().payload)
		full(5)
		require.Empty(t, s.last().payload, "its own subject cannot be full, so it is not resent repeatedly")
	})
	t.Run("of a rejected message", func(t *testing.T) {
		t.Parallel()
		s := play(t)
		s.deliver(1, "tenant//device/x/telemetry", long)
		s.stream.refuse(0)
		require.Equal(t, "quarantine.bad_topic", s.last().subject)
		require.Equal(t, "900", s.last().headers[HeaderSize])
	})
}

// A device chooses its topic, its name and its payload; the broker's operator chooses the rest.
// JetStream must be able to store the resulting message in any case.
func TestHostileValues(t *testing.T) {
	t.Parallel()
	pattern, err := subjects.ParsePattern("{tenant}/{device}/{rest}")
	require.NoError(t, err)
	template, err := subjects.ParseTemplate("{tenant}.{device}", pattern)
	require.NoError(t, err)
	short, err := subjects.NewSet([]subjects.Route{{Pattern: pattern, Template: template}})
	require.NoError(t, err)
	names := map[string]string{
		"control characters": strings.Repeat("\x01", 17_000), "line ends": strings.Repeat("\r\n", 2500),
		"bytes": strings.Repeat("\xff", 3000), "wildcards": strings.Repeat("*", 65_000), "dots": strings.Repeat(".", 1000),
		"levels": strings.Repeat("x/", 5_000), "Unicode": strings.Repeat("\U0010ffff", 800), "spaces": strings.Repeat(" ", 2000),
		"nothing": "", "quotes": strings.Repeat("\"", 3000), "its own": "acme/dev-1",
	}
	for cnIs, cn := range names {
		for topicIs, level := range names {
			t.Run(cnIs+" and "+topicIs, func(t *testing.T) {
				t.Parallel()
				for _, adjust := range []func(*LaneOptions){
					func(*LaneOptions) {}, envelopes,
					func(o *LaneOptions) { o.Rules.Topics = short },
					func(o *LaneOptions) { o.Rules.Registry = certificates.New() },
				} {
					s := play(t, attested(t), adjust)
					for i, topic := range []string{level, telemetry + level, "acme/dev-1/" + level, "tenant/" + level + "/device/x/y", level + "/" + level + "/x"} {
						s.deliver(uint16(i+1), vouched(brokerID, noon, cn, topic), `{"p":1}`)
						requireStorable(t, s.last())
						s.stream.refuse(len(s.stream.all()) - 1)
						requireStorable(t, s.last())
					}
				}
			})
		}
	}
}

func requireStorable(t *testing.T, m *published) {
	t.Helper()
	size := 0
	for name, value := range m.headers {
		require.LessOrEqual(t, len(value), 3*maxTopic, name)
		size += len(name) + len(value) + 4
	}
	require.LessOrEqual(t, size, 16<<10, "JetStream accepts headers of 64 KiB")
	require.LessOrEqual(t, len(m.subject), subjects.MaxSubjectBytes+64, "max_control_line is 4 KiB")
}

// A single device cannot fill the quarantine stream: a copy counts by its size.
func TestQuarantineBytes(t *testing.T) {
	t.Parallel()
	bounded := func(o *LaneOptions) {
		edit(o.Limits, func(l *limit.Limits) { l.MaxPayload, l.Quarantine = 256<<10, limit.Rate{Rate: 1, Burst: 10} })
	}
	for name, c := range map[string]struct {
		topic   string
		payload int
		want    int // copies of it in 20 minutes
	}{
		"oversize payloads are cut short": {telemetry, 300_000, 1200 + 10},
		"others count for each KiB":       {"tenant//device/x/telemetry", 200 << 10, 1200/200 + 1},
		"small ones count as one":         {"tenant//device/x/telemetry", 900, 1200 + 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := play(t, bounded)
			payload := strings.Repeat("x", c.payload)
			copies, bytes := 0, 0
			for range 1200 {
				s.deliver(1, c.topic, payload)
				s.deliver(2, c.topic, payload)
				for i, m := range s.stream.all() {
					copies, bytes = copies+1, bytes+len(m.payload)
					s.stream.store(i)
				}
				s.stream.messages = s.stream.messages[:0]
				s.tick(time.Second)
			}
			require.LessOrEqual(t, copies, c.want)
			require.GreaterOrEqual(t, copies, c.want-10)
			require.Less(t, bytes, 1800<<10, "no more than its share of 1 GiB over the retention of 7 days")
		})
	}
}

func testRefusalBeyondTheBoundIsCountedAndAcked(t *testing.T) {
	t.Parallel()
	s := play(t, func(o *LaneOptions) {
		edit(o.Limits, func(l *limit.Limits) { l.Quarantine = limit.Rate{Rate: 1, Burst: 1} })
	})
	s.deliver(1, telemetry, "a")
	s.deliver(2, telemetry, "b")
	s.deliver(0, telemetry, "c", qos0)
	for i := range 3 {
		s.stream.refuse(i)
	}
	require.Len(t, s.stream.all(), 4)
	require.Equal(t, uint64(2), s.Counts().QuarantineSkipped)
	s.stream.store(3)
	require.Equal(t, []uint16{1, 2}, s.conn.acked())
	require.Zero(t, s.Counts().InFlight)
}

// Quarantine contains the payload as the device sent it; otherwise a replay would wrap an envelope
// twice.
func TestRefusedEnvelope(t *testing.T) {
	t.Parallel()
	for name, payload := range map[string]string{
		"an object":       ` {"v": 1.50} `,
		"like an end":     `{"x":{},"ts":1}`,
		"like a begin":    `{"a":"b","payload":{"ts":2},"ts":1}`,
		"a string":        `",\"payload\":1,\"ts\":2"`,
		"a number, alone": `1`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic := `tenant/a,"payload":/device/d,"ts":/x`
			s := play(t, attested(t), envelopes)
			s.deliver(1, vouched(brokerID, noon, `a,"payload":/d,"ts":`, topic), payload)
			want := s.only()
			s.stream.refuse(0)
			copied := s.last()
			require.Equal(t, "refused", copied.headers[HeaderReason])
			require.Equal(t, payload, copied.payload)
			got := s.restore(rejected(t, copied))
			require.Equal(t, verdict.Accepted, got.Reason, got.Detail)
			require.Equal(t, want.payload, asPublished(got.Message).payload)
		})
	}
}
