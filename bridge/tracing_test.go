package bridge

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/bridge/verdict"
)

// tracing configures the lane to add traceparent and returns the recorded spans.
func tracing(ratio float64) (func(*LaneOptions), *[]Span) {
	var spans []Span
	return func(o *LaneOptions) {
		o.Tracing = &Tracing{Ratio: ratio, Record: func(s *Span) { spans = append(spans, *s) }}
	}, &spans
}

var traceParent = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$`)

func TestTracing(t *testing.T) {
	t.Parallel()
	t.Run("the message id gives the ids", func(t *testing.T) {
		t.Parallel()
		on, spans := tracing(1)
		s := play(t, on, attested(t))
		s.deliver(1, vouched(brokerID, noon, "acme/dev-1", telemetry), "{}")
		sum := sha256.Sum256([]byte(brokerID))
		m := s.only()
		require.Equal(t, brokerID, m.id)
		require.Equal(t, fmt.Sprintf("00-%x-%x-01", sum[:16], sum[16:24]), m.headers[HeaderTraceParent])
		require.Empty(t, *spans, "it is not stored yet")
		s.tick(5e6)
		s.stream.store(0)
		require.Equal(t, []Span{{
			TraceContext: NewTraceContext([]byte(brokerID)), Lane: "lane", MessageID: brokerID, Subject: telemetrySubject,
			Pattern: telemetryPattern, Size: 2, Received: noon, Settled: noon + 5e6,
		}}, *spans)
		require.Empty(t, s.spans)
	})
	t.Run("a redelivery has the same", func(t *testing.T) {
		t.Parallel()
		for name, wire := range map[string][]func(*LaneOptions){"plain": {}, "attested": {attested(t)}} {
			topic := telemetry
			if name == "attested" {
				topic = vouched(brokerID, noon, "acme/dev-1", telemetry)
			}
			dir := t.TempDir()
			parents := map[string]bool{}
			for _, how := range [][]with{nil, {dup}, {dup}} { // each in its own process
				on, _ := tracing(0.5)
				j := openJournal(t, dir)
				s := play(t, append(wire, on, func(o *LaneOptions) { o.Journal = j })...)
				s.deliver(1, topic, "{}", how...)
				parent := s.only().headers[HeaderTraceParent]
				require.Regexp(t, traceParent, parent)
				parents[parent] = true
				require.NoError(t, j.Close())
			}
			require.Len(t, parents, 1, name)
		}
	})
	t.Run("off adds nothing", func(t *testing.T) {
		t.Parallel()
		s := play(t)
		s.deliver(1, telemetry, "{}")
		require.Empty(t, s.only().headers)
		s.stream.store(0)
	})
	t.Run("a rejected message", func(t *testing.T) {
		t.Parallel()
		on, spans := tracing(1)
		s := play(t, on, attested(t), func(o *LaneOptions) { o.Rules.ForwardRetained = true })
		s.deliver(1, vouched(brokerID, noon, "acme/dev-1", telemetry), strings.Repeat("x", 3000), cutTo(2000), retained)
		m := s.only()
		require.Len(t, m.headers, len(s.headers), "every header that there is")
		require.Regexp(t, traceParent, m.headers[HeaderTraceParent])
		s.stream.store(0)
		require.Equal(t, verdict.PayloadTooLarge, (*spans)[0].Reason)
		require.Equal(t, "a payload of 3000 bytes is over the limit of 1024", (*spans)[0].Detail)
		require.Equal(t, 3000, (*spans)[0].Size)
	})
	t.Run("refused by JetStream", func(t *testing.T) {
		t.Parallel()
		on, spans := tracing(1)
		s := play(t, on)
		s.deliver(1, telemetry, "{}")
		s.stream.refuse(0)
		require.Empty(t, *spans, "its copy is not stored yet")
		require.Equal(t, s.stream.all()[0].headers[HeaderTraceParent], s.last().headers[HeaderTraceParent])
		s.stream.refuse(1) // truncated to fit
		require.Equal(t, s.stream.all()[0].headers[HeaderTraceParent], s.last().headers[HeaderTraceParent])
		s.stream.store(2)
		require.Len(t, *spans, 1)
		require.Equal(t, verdict.Refused, (*spans)[0].Reason)
		require.Equal(t, "JetStream refused it: "+errRefused.Error(), (*spans)[0].Detail)
		require.Empty(t, s.spans)
	})
	t.Run("refused and dropped", func(t *testing.T) {
		t.Parallel()
		on, spans := tracing(1)
		s := play(t, on, func(o *LaneOptions) { o.Rules.Quarantine = false })
		s.deliver(1, telemetry, "{}")
		s.stream.refuse(0)
		require.Equal(t, verdict.Refused, (*spans)[0].Reason)
		require.Empty(t, s.spans)
	})
	t.Run("not sampled", func(t *testing.T) {
		t.Parallel()
		on, spans := tracing(0)
		s := play(t, on)
		s.deliver(1, telemetry, "{}")
		require.Regexp(t, "-00$", s.only().headers[HeaderTraceParent])
		s.stream.store(0)
		require.Empty(t, *spans)
	})
	t.Run("a replay keeps it", func(t *testing.T) {
		t.Parallel()
		on, _ := tracing(1)
		s := play(t, on, func(o *LaneOptions) {
			edit(o.Limits, func(l *limit.Limits) { l.Device = limit.Rate{Rate: 1, Burst: 1} })
		})
		s.deliver(1, telemetry, "{}")
		s.deliver(2, telemetry, "{}")
		copy := s.last()
		r := rejected(t, copy)
		r.TraceParent = []byte(copy.headers[HeaderTraceParent])
		require.Equal(t, copy.headers[HeaderTraceParent], asPublished(s.restore(r).Message).headers[HeaderTraceParent])
		r.TraceParent = []byte(strings.Repeat("x", maxTraceParent+1))
		require.NotContains(t, asPublished(s.restore(r).Message).headers, HeaderTraceParent)
	})
}

func TestTracingSamples(t *testing.T) {
	t.Parallel()
	const n = 20_000
	for _, ratio := range []float64{0, 0.01, 0.25, 1} {
		sampled := 0
		for i := range n {
			c := NewTraceContext(fmt.Appendf(nil, "bridge-0-%d", i))
			if c.Sampled(ratio) {
				sampled++
				require.True(t, c.Sampled(min(2*ratio, 1)), "a larger share contains the smaller one")
			}
		}
		require.InDelta(t, ratio*n, sampled, 200)
	}
}

func BenchmarkTraceContext(b *testing.B) {
	var buf []byte
	id := []byte(brokerID)
	for b.Loop() {
		c := NewTraceContext(id)
		buf = c.append(buf[:0], c.Sampled(0.01))
	}
}
