package bridge

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/subjects"
)

func formatInt(n int64) string { return strconv.FormatInt(n, 10) }

func envelopes(o *LaneOptions) { o.Rules.Formats = []Format{Envelope, Envelope, Envelope} }

func TestQuarantineIsBoundedForEachDevice(t *testing.T) {
	t.Parallel()
	s := play(t, func(o *LaneOptions) { o.Limits.edit(func(l *Limits) { l.Quarantine = Rate{Rate: 1, Burst: 2} }) })
	big := strings.Repeat("x", 2000)
	for id := range uint16(5) {
		s.deliver(id+1, deviceTopic("acme/loud"), big)
	}
	s.deliver(6, deviceTopic("acme/quiet"), big)
	require.Len(t, s.stream.all(), 3)
	require.Equal(t, "quarantine.payload_too_large.tenant.acme.device.quiet.telemetry", s.last().subject)
	require.Equal(t, uint64(3), s.Counts().QuarantineSkipped)
	require.Equal(t, uint64(6), s.Counts().Rejected[PayloadTooLarge])
	s.tick(time.Second)
	s.deliver(7, deviceTopic("acme/loud"), big)
	require.Len(t, s.stream.all(), 4)
	require.Empty(t, s.conn.acked())
	for i := range 4 {
		s.stream.store(i)
	}
	require.Equal(t, []uint16{1, 2, 3, 4, 5, 6, 7}, s.conn.acked())
}

// Where the topics name no device, each topic has the bound of one.
func TestQuarantineFixedDevice(t *testing.T) {
	t.Parallel()
	s := play(t, func(o *LaneOptions) {
		pattern, err := subjects.ParsePattern("sensors/{name}")
		require.NoError(t, err)
		pattern, err = pattern.WithDevice("home", "hub")
		require.NoError(t, err)
		o.Rules.Topics, err = subjects.NewSet([]subjects.Route{{Pattern: pattern}})
		require.NoError(t, err)
		o.Limits.edit(func(l *Limits) { l.Quarantine = Rate{Rate: 1, Burst: 2} })
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

func TestWhatIsNotQuarantinedIsCountedAndAcknowledged(t *testing.T) {
	t.Parallel()
	s := play(t, func(o *LaneOptions) { o.Rules.Quarantine = false })
	s.deliver(1, "elsewhere", "a")
	s.deliver(0, "elsewhere", "a", qos0)
	require.Empty(t, s.stream.all())
	require.Equal(t, []uint16{1}, s.conn.acked())
	require.Equal(t, uint64(2), s.Counts().QuarantineSkipped)
}

// noDevice matches a topic pattern, and is rejected as bad_topic.
const noDevice = "tenant/acme/device//telemetry"

func TestASkippedMessageStaysSkippedOnRedelivery(t *testing.T) {
	t.Parallel()
	s := play(t, func(o *LaneOptions) { o.Limits.edit(func(l *Limits) { l.Quarantine = Rate{Rate: 1, Burst: 1} }) })
	s.deliver(1, noDevice, "a")
	s.deliver(2, noDevice, "a")
	s.tick(time.Minute)
	s.connect(true)
	s.deliver(1, noDevice, "a", dup)
	s.deliver(2, noDevice, "a", dup)
	require.Len(t, s.stream.all(), 1)
	s.stream.store(0)
	require.Equal(t, []uint16{1, 2}, s.conn.acked())
}

func TestARefusedMessageGoesToQuarantineUnderItsID(t *testing.T) {
	t.Parallel()
	s := play(t, attested(t))
	topic := "tenant/acme/device/dev 1/telemetry"
	s.deliver(1, vouched(brokerID, noon, "acme/dev 1", topic), "payload", func(d *Delivery) { d.Retain = true }, forward(s))
	s.deliver(2, vouched(brokerID+"3", noon, "acme/dev-2", deviceTopic("acme/dev-2")), "next")
	s.stream.refuse(0)
	s.stream.store(1)
	require.Empty(t, s.conn.acked(), "it is stored nowhere yet")
	m := s.last()
	require.Equal(t, "quarantine.refused.tenant.acme.device.dev%201.telemetry", m.subject)
	require.Equal(t, "payload", m.payload)
	require.Equal(t, brokerID, m.id)
	require.Equal(t, map[string]string{
		HeaderReason: "refused", HeaderDetail: "JetStream does not take it: message size exceeds maximum allowed",
		HeaderTopic: topic, HeaderCN: "acme/dev 1", HeaderTime: "2026-11-23T12:00:00.000Z", HeaderRetained: "true",
	}, m.headers)
	s.stream.store(2)
	require.Equal(t, []uint16{1, 2}, s.conn.acked())
	c := s.Counts()
	require.Equal(t, uint64(1), c.Rejected[Refused])
	require.Equal(t, uint64(1), c.Quarantined[Refused])
	require.Equal(t, uint64(1), c.Stored)
	s.connect(true)
	s.deliver(1, vouched(brokerID, noon, "acme/dev 1", topic), "payload", dup, retained)
	require.Equal(t, []uint16{1}, s.conn.acked(), "it is settled for good")
}

func forward(s *script) with {
	s.opts.Rules.ForwardRetained = true
	return func(*Delivery) {}
}

func TestARefusedQuarantineCopyGoesWithoutPayload(t *testing.T) {
	t.Parallel()
	s := play(t)
	s.deliver(1, telemetry, "payload")
	s.stream.refuse(0)
	s.stream.refuse(1)
	m := s.last()
	require.Equal(t, "quarantine.refused."+telemetrySubject, m.subject)
	require.Empty(t, m.payload)
	require.Empty(t, s.conn.acked())
	s.stream.store(2)
	require.Equal(t, []uint16{1}, s.conn.acked())
}

// A template that drops a capture gives a short subject to a topic of any length:
// its header alone can be over nats-server's 64 KiB. The last copy must fit
// whatever made the others too large, or it would go round for ever.
func TestTheSmallestQuarantineCopyIsSmall(t *testing.T) {
	t.Parallel()
	pattern, err := subjects.ParsePattern("{tenant}/{device}/{rest}")
	require.NoError(t, err)
	template, err := subjects.ParseTemplate("{tenant}.{device}", pattern)
	require.NoError(t, err)
	set, err := subjects.NewSet([]subjects.Route{{Pattern: pattern, Template: template}})
	require.NoError(t, err)
	s := play(t, func(o *LaneOptions) { o.Rules.Topics = set })
	s.deliver(1, "acme/dev-1/"+strings.Repeat("\n", 40_000), "payload")
	for i := range 2 {
		if len(s.stream.all()) == i+1 {
			s.stream.refuse(i)
		}
	}
	size := 0
	for name, value := range s.last().headers {
		size += len(name) + len(value) + 4
	}
	require.Less(t, size, 8<<10)
	require.Equal(t, "refused", s.last().headers[HeaderReason])
	require.Equal(t, "quarantine.refused.acme.dev-1", s.last().subject)
}

func TestARefusalBeyondTheBoundIsCountedAndAcknowledged(t *testing.T) {
	t.Parallel()
	s := play(t, func(o *LaneOptions) { o.Limits.edit(func(l *Limits) { l.Quarantine = Rate{Rate: 1, Burst: 1} }) })
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

// What is in quarantine is what the device sent, or a replay would wrap it twice.
func TestARefusedEnvelopeIsInQuarantineAsTheDeviceSentIt(t *testing.T) {
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
			require.Equal(t, Accepted, got.Reason, got.Detail)
			require.Equal(t, want.payload, asPublished(got.Message).payload)
		})
	}
}
