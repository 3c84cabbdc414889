package bridge

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// sink is a publisher and a connection that keep nothing.
type sink struct {
	token uint64
	bytes int
}

func (s *sink) Publish(m *Message) { s.token, s.bytes = m.Token, s.bytes+len(m.Payload)+len(m.ID) }
func (s *sink) Ack(uint16)         { s.bytes++ }
func (s *sink) Flush()             {}

// path is a lane between ends that cost nothing, and a message for it.
type path struct {
	lane *Lane
	end  *sink
	d    Delivery
}

func newPath(t tester, topic string, adjust ...func(*LaneOptions)) *path {
	s := play(t, append(adjust, func(o *LaneOptions) {
		o.Limits.edit(func(l *Limits) { l.Device, l.Tenant = Rate{Rate: 1e9, Burst: 1e12}, Rate{Rate: 1e9, Burst: 1e12} })
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

// wires are the two kinds of lanes, one that adds trace contexts, and one with overrides and a registry.
func wires(t tester) map[string]*path {
	return map[string]*path{
		"plain":    newPath(t, telemetry),
		"attested": newPath(t, vouched(brokerID, noon, "acme/dev-1", telemetry), attested(t)),
		"attested, traced": newPath(t, vouched(brokerID, noon, "acme/dev-1", telemetry), attested(t), func(o *LaneOptions) {
			o.Tracing = &Tracing{Record: func(*Span) {}}
		}),
		"everything": newPath(t, vouched(brokerID, noon, "acme/dev-1", telemetry), attested(t), func(o *LaneOptions) {
			o.Devices = NewBudgets(BudgetOptions{Tenants: 100})
			known := NewCertificates()
			known.Table().Put("acme", "dev-1", StatusActive, 0)
			o.Rules.Registry = known
			o.Limits.SetOverrides([]Override{
				{Tenant: "acme", Device: "dev-1", Rate: Rate{Rate: 1e9, Burst: 1e12}},
				{Tenant: "acme", Rate: Rate{Rate: 1e9, Burst: 1e12}},
			})
		}),
	}
}

func TestAMessageOnItsWayAllocatesNothing(t *testing.T) {
	for name, p := range wires(t) {
		for range 100 {
			p.message() // the buffers grow once
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

// heap is what lives after a collection.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// fleet is n devices with names of up to 24 bytes.
func fleet(n int, limits meter) *Budgets {
	d := NewBudgets(BudgetOptions{})
	var name []byte
	for i := range n {
		name = fmt.Appendf(name[:0], "tenant-%04d/device-%05d", i%1000, i/1000)
		r := d.receive(name, noon)
		d.take(r, limits, noon, 0)
		d.stored(r)
	}
	return d
}

// Not parallel: it reads the process's heap.
func TestAMillionDevicesFit(t *testing.T) {
	const n = 1_000_000
	before := heap()
	d := fleet(n, Rate{Rate: 10, Burst: 20}.meter())
	perDevice := float64(heap()-before) / n
	t.Logf("%.1f B a device with its statistics and its name", perDevice)
	require.Equal(t, n, d.Len())
	require.LessOrEqual(t, perDevice, 96.0)
	runtime.KeepAlive(d)
}

func BenchmarkDevices(b *testing.B) {
	m := Rate{Rate: 10, Burst: 20}.meter()
	const n = 1_000_000
	d := fleet(n, m)
	names := make([][]byte, n)
	for i := range names {
		names[i] = fmt.Appendf(nil, "tenant-%04d/device-%05d", i%1000, i/1000)
	}
	rand.Shuffle(n, func(i, j int) { names[i], names[j] = names[j], names[i] })
	for name, span := range map[string]int{"warm": 16, "cold": n} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				r := d.receive(names[i%span], noon)
				d.take(r, m, noon, 0)
				d.stored(r)
				i++
			}
		})
	}
}
