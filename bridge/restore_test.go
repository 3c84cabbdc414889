package bridge

import (
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/subjects"
)

// rejected is a published quarantine copy as a replay reads it.
func rejected(t testing.TB, p *published) *Rejected {
	t.Helper()
	rest, ok := strings.CutPrefix(p.subject, QuarantineSubject+".")
	require.True(t, ok, p.subject)
	reason, subject, _ := strings.Cut(rest, ".")
	m := &Rejected{
		ID: p.id, Reason: reason, Subject: subject, Payload: []byte(p.payload), Size: len(p.payload),
		At: time.Unix(0, noon).Add(time.Hour), Retained: p.headers[HeaderRetained] == "true",
	}
	if topic, ok := p.headers[HeaderTopic]; ok {
		m.Topic = []byte(topic)
	}
	if cn, ok := p.headers[HeaderCN]; ok {
		m.CN = []byte(cn)
	}
	if size, ok := p.headers[HeaderSize]; ok {
		var err error
		m.Size, err = strconv.Atoi(size)
		require.NoError(t, err)
	}
	if at, ok := p.headers[HeaderTime]; ok {
		var err error
		m.At, err = time.Parse(time.RFC3339, at)
		require.NoError(t, err)
	}
	return m
}

// asPublished copies the message that Restore returned, as streamEnd does.
func asPublished(m *Message) *published {
	p := &published{subject: string(m.Subject), id: string(m.ID), payload: string(m.Payload), headers: map[string]string{}}
	for _, h := range m.Headers {
		p.headers[h.Name] = string(h.Value)
	}
	return p
}

// restore validates a quarantined message against the settings in force.
func (s *script) restore(m *Rejected) Restored {
	return s.opts.Rules.Restore(m, s.opts.Limits.Snapshot().MaxPayload)
}

func routed(t testing.TB, pattern, template string) func(*LaneOptions) {
	t.Helper()
	return func(o *LaneOptions) {
		p, err := subjects.ParsePattern(pattern)
		require.NoError(t, err)
		tmpl, err := subjects.ParseTemplate(template, p)
		require.NoError(t, err)
		set, err := subjects.NewSet([]subjects.Route{{Pattern: p, Template: tmpl}})
		require.NoError(t, err)
		o.Rules.Topics, o.Rules.Formats = set, nil
	}
}

// A replay restores, from the copy in quarantine, the message that would have been stored without a
// limit.
func TestRestoredMessage(t *testing.T) {
	t.Parallel()
	everything := strings.Builder{}
	for c := range 256 {
		everything.WriteByte(byte(c))
	}
	type change = func(*LaneOptions)
	for name, c := range map[string]struct {
		topic, payload string
		how            []change
	}{
		"plain":                 {topic: telemetry, payload: "21.5"},
		"every byte":            {topic: telemetry, payload: everything.String()},
		"no payload":            {topic: telemetry},
		"escapes":               {topic: "tenant/a.b/device/* >%/\x01\xff"},
		"line ends":             {topic: "tenant/acme/device/x/a\r\nb"},
		"spaces at the end":     {topic: "tenant/acme/device/x/ "},
		"percent, not a space":  {topic: "tenant/acme/device/x/%20"},
		"another subject":       {topic: telemetry, how: []change{routed(t, telemetryPattern, "telemetry.{tenant}")}},
		"another, with escapes": {topic: "tenant/a b/device/c.d/e", how: []change{routed(t, telemetryPattern, "t.{device}.{tenant}")}},
		"envelope":              {topic: telemetry, payload: ` {"v": 1.50} `, how: []change{envelopes}},
	} {
		for _, vouch := range []bool{false, true} {
			topic, how := c.topic, c.how
			if vouch {
				parts := strings.Split(c.topic, "/")
				topic = vouched(brokerID, noon-1500e6, parts[1]+"/"+parts[3], c.topic)
				how = append(how[:len(how):len(how)], attested(t))
			}
			t.Run(name+", attested "+strconv.FormatBool(vouch), func(t *testing.T) {
				t.Parallel()
				free := play(t, how...)
				free.deliver(1, topic, c.payload)
				want := free.only()
				tight := play(t, append(how[:len(how):len(how)], func(o *LaneOptions) {
					edit(o.Limits, func(l *limit.Limits) { l.Device = limit.Rate{Rate: 1, Burst: 1} })
				})...)
				tight.deliver(9, topic, "{}")
				tight.deliver(1, topic, c.payload)
				copied := tight.last()
				require.Equal(t, "rate_limited", copied.headers[HeaderReason])

				got := free.restore(rejected(t, copied))
				require.Equal(t, verdict.Accepted, got.Reason, got.Detail)
				m := asPublished(got.Message)
				require.Equal(t, copied.id, m.id)
				require.Equal(t, want.subject, m.subject)
				if !vouch {
					require.Equal(t, "2026-11-23T13:00:00.000Z", m.headers[HeaderTime], "when it was quarantined")
					want.headers = maps.Clone(want.headers)
					want.headers[HeaderTime] = m.headers[HeaderTime]
					want.payload = strings.Replace(want.payload, formatInt(noon/1e6), formatInt(noon/1e6+3_600_000), 1)
				}
				require.Equal(t, want.headers, m.headers)
				require.Equal(t, want.payload, m.payload)
				require.Equal(t, strings.Split(c.topic, "/")[1], string(got.Tenant))
				require.Equal(t, strings.Split(c.topic, "/")[3], string(got.Device))
			})
		}
	}
}

func TestRestoreVerdict(t *testing.T) {
	t.Parallel()
	small := func(o *LaneOptions) { edit(o.Limits, func(l *limit.Limits) { l.MaxPayload = 10 }) }
	t.Run("cut payload, whatever the limit", func(t *testing.T) {
		t.Parallel()
		s := play(t, small)
		s.deliver(1, telemetry, "eleven bytes")
		got := play(t).restore(rejected(t, s.only()))
		require.Equal(t, verdict.PayloadTooLarge, got.Reason)
		require.Contains(t, got.Detail, "only the first 10 of 12 bytes of the payload were kept")
	})
	t.Run("a bad topic with a cut payload", func(t *testing.T) {
		t.Parallel()
		s := play(t, small)
		s.deliver(1, "plant/acme/dev-1", "eleven bytes")
		got := play(t, routed(t, "plant/{tenant}/{device}", "plant.{tenant}")).restore(rejected(t, s.only()))
		require.Equal(t, verdict.PayloadTooLarge, got.Reason)
	})
	t.Run("a bad topic that is good now", func(t *testing.T) {
		t.Parallel()
		s := play(t)
		s.deliver(1, "plant/acme/dev-1", "whole")
		got := play(t, routed(t, "plant/{tenant}/{device}", "plant.{tenant}")).restore(rejected(t, s.only()))
		require.Equal(t, verdict.Accepted, got.Reason)
		require.Equal(t, "plant.acme", string(got.Message.Subject))
	})
	t.Run("a topic that was cut", func(t *testing.T) {
		t.Parallel()
		s := play(t)
		s.deliver(1, "tenant/acme/device/dev-1/"+strings.Repeat("x", 1100), "p")
		got := play(t).restore(rejected(t, s.only()))
		require.Equal(t, verdict.BadTopic, got.Reason)
		require.Contains(t, got.Detail, "beginning of the topic")
	})
	t.Run("an impostor", func(t *testing.T) {
		t.Parallel()
		s := play(t, attested(t))
		s.deliver(1, vouched(brokerID, noon, "acme/dev-2", telemetry), "p")
		got := s.restore(rejected(t, s.only()))
		require.Equal(t, verdict.CNMismatch, got.Reason)
	})
	t.Run("without a CN", func(t *testing.T) {
		t.Parallel()
		m := rejected(t, &published{subject: "quarantine.rate_limited." + telemetrySubject, id: "1", headers: map[string]string{HeaderTopic: telemetry}})
		require.Equal(t, verdict.Accepted, play(t).restore(m).Reason)
		require.Equal(t, verdict.CNMissing, play(t, attested(t)).restore(m).Reason)
	})
	t.Run("no JSON where there must be", func(t *testing.T) {
		t.Parallel()
		s := play(t, envelopes)
		s.deliver(1, telemetry, "not JSON")
		require.Equal(t, verdict.BadPayload, s.restore(rejected(t, s.only())).Reason)
		require.Equal(t, verdict.Accepted, play(t).restore(rejected(t, s.only())).Reason)
	})
	t.Run("smallest copy, and one without an id", func(t *testing.T) {
		t.Parallel()
		s := play(t)
		s.deliver(1, telemetry, "payload")
		for i := range 3 {
			s.stream.refuse(i)
		}
		got := s.restore(rejected(t, s.last()))
		require.Equal(t, verdict.BadTopic, got.Reason)
		require.Contains(t, got.Detail, "neither the topic nor the payload")
		m := rejected(t, s.stream.all()[1])
		require.Equal(t, verdict.Accepted, s.restore(m).Reason)
		m.ID = ""
		require.Equal(t, verdict.Refused, s.restore(m).Reason)
	})
}

func TestRestore(t *testing.T) {
	t.Parallel()
	t.Run("CN with outer white space is accepted", testCNWithOuterWhiteSpaceIsAccepted)
	t.Run("look-alike CN in header is rejected", testLookAlikeCNInHeaderIsRejected)
	t.Run("topic the header cannot carry is rejected", testTopicTheHeaderCannotCarryIsRejected)
}

// A header cannot end in a space, so a name in a header cannot either.
func testCNWithOuterWhiteSpaceIsAccepted(t *testing.T) {
	t.Parallel()
	for _, cn := range []string{"acme/dev ", " acme/dev", "acme/\tdev\t", "acme/dev\n", "acme/dev\r\n", " / "} {
		tenant, device, _ := strings.Cut(cn, "/")
		topic := "tenant/" + tenant + "/device/" + device + "/telemetry"
		s := play(t, attested(t), func(o *LaneOptions) {
			edit(o.Limits, func(l *limit.Limits) { l.Device = limit.Rate{Rate: 1, Burst: 1} })
		})
		s.deliver(1, vouched(brokerID, noon, cn, topic), "first")
		want := s.last()
		s.deliver(2, vouched(brokerID+"2", noon, cn, topic), "second")
		require.Equal(t, "rate_limited", s.last().headers[HeaderReason])
		got := s.restore(rejected(t, s.last()))
		require.Equal(t, verdict.Accepted, got.Reason, "%q: %s", cn, got.Detail)
		m := asPublished(got.Message)
		require.Equal(t, want.headers, m.headers)
		require.Equal(t, want.subject, m.subject)
	}
}

// Two names may look alike in a header. The lane's check has distinguished them, and a replay keeps
// its verdict.
func testLookAlikeCNInHeaderIsRejected(t *testing.T) {
	t.Parallel()
	s := play(t, attested(t))
	s.deliver(1, vouched(brokerID, noon, "acme/dev%20", "tenant/acme/device/dev /telemetry"), "p")
	require.Equal(t, "cn_mismatch", s.last().headers[HeaderReason])
	require.Equal(t, verdict.CNMismatch, s.restore(rejected(t, s.last())).Reason)
}

// If the subject does not contain the whole topic, an escape in the header is ambiguous: the device
// may have written it. The message could be stored as another device's.
func testTopicTheHeaderCannotCarryIsRejected(t *testing.T) {
	t.Parallel()
	for _, device := range []string{"dev ", "dev\t", "de\rv", "de\nv", "dev%20", "de%0Av"} {
		for _, vouch := range []bool{false, true} {
			how := []func(*LaneOptions){routed(t, "plant/{tenant}/{device}", "plant.{device}")}
			topic := "plant/acme/" + device
			if vouch {
				how, topic = append(how, attested(t)), vouched(brokerID, noon, "acme/"+device, topic)
			}
			s := play(t, append(how, func(o *LaneOptions) {
				edit(o.Limits, func(l *limit.Limits) { l.Device = limit.Rate{Rate: 1, Burst: 1} })
			})...)
			s.deliver(1, topic, "first")
			s.deliver(2, topic, "second")
			require.Equal(t, "rate_limited", s.last().headers[HeaderReason])
			got := s.restore(rejected(t, s.last()))
			require.Equal(t, verdict.BadTopic, got.Reason, "%q", device)
			require.Contains(t, got.Detail, "byte for byte")
		}
	}
}
