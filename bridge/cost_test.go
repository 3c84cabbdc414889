package bridge

import (
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/certificates"
	"mqtt-nats-bridge/bridge/limit"
)

// sink is a publisher and a connection that discard all data.
type sink struct {
	token uint64
	bytes int
}

func (s *sink) Publish(m *Message) { s.token, s.bytes = m.Token, s.bytes+len(m.Payload)+len(m.ID) }
func (s *sink) Ack(uint16)         { s.bytes++ }
func (s *sink) Flush()             {}

// path is a lane between ends without cost, and a message for it.
type path struct {
	lane *Lane
	end  *sink
	d    Delivery
}

func newPath(t tester, topic string, adjust ...func(*LaneOptions)) *path {
	s := play(t, append(adjust, func(o *LaneOptions) {
		edit(o.Limits, func(l *limit.Limits) {
			l.Device, l.Tenant = limit.Rate{Rate: 1e9, Burst: 1e12}, limit.Rate{Rate: 1e9, Burst: 1e12}
		})
	})...)
	p := &path{lane: s.Lane, end: &sink{}}
	s.Start(p.end)
	s.Connected(p.end, false)
	payload := make([]byte, 256)
	p.d = Delivery{Topic: []byte(topic), Payload: payload, PayloadSize: 256, QoS: 1, ReceivedAt: noon}
	return p
}

func (p *path) message() {
	if p.d.PacketID++; p.d.PacketID == 0 {
		p.d.PacketID = 1
	}
	p.lane.Deliver(p.end, &p.d)
	p.lane.Settle(&Result{Token: p.end.token})
}

// wires returns the two kinds of lanes, one that adds trace contexts, and one with overrides and a
// registry.
func wires(t tester) map[string]*path {
	return map[string]*path{
		"plain":    newPath(t, telemetry),
		"attested": newPath(t, vouched(brokerID, noon, "acme/dev-1", telemetry), attested(t)),
		"attested, traced": newPath(t, vouched(brokerID, noon, "acme/dev-1", telemetry), attested(t), func(o *LaneOptions) {
			o.Tracing = &Tracing{Record: func(*Span) {}}
		}),
		"everything": newPath(t, vouched(brokerID, noon, "acme/dev-1", telemetry), attested(t), func(o *LaneOptions) {
			o.Devices = limit.NewBudgets(limit.BudgetOptions{Tenants: 100})
			known := certificates.New()
			known.Table().Put("acme", "dev-1", certificates.StatusActive, 0)
			o.Rules.Registry = known
			o.Limits.SetOverrides([]limit.Override{
				{Tenant: "acme", Device: "dev-1", Rate: limit.Rate{Rate: 1e9, Burst: 1e12}},
				{Tenant: "acme", Rate: limit.Rate{Rate: 1e9, Burst: 1e12}},
			})
		}),
	}
}

func TestLaneAllocs(t *testing.T) {
	for name, p := range wires(t) {
		for range 100 {
			p.message() // let the buffers grow once
		}
		require.Zero(t, testing.AllocsPerRun(1000, p.message), name)
		c := p.lane.Counts()
		require.Equal(t, c.Received, c.Stored, name)
	}
}

func BenchmarkLane(b *testing.B) {
	for name, p := range wires(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.message()
			}
		})
	}
}
