package cluster

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
)

// A replica's link stalls while messages are in flight to NATS. The broker restarts without its
// sessions, so it does not redeliver them, and another replica acquires the partitions. The
// first replica's messages arrive after those of the second: once, but out of order.
func TestOrderAfterALostSession(t *testing.T) {
	t.Parallel()
	testrun.SkipQuick(t, "leases expire in real time")
	addr := testrun.Address(t).String()
	devices, err := broker.Open(broker.Options{Listen: addr})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, devices.Close()) })
	r := &fleetRig{t: t, addr: addr, nats: peers.NATSServer(t, peers.NATSOptions{})}
	r.js = proof.ConnectNATS(t, r.nats.URL)
	a := r.start("a")
	r.awaitShares(a)
	said := 0
	for range 16 { // from then on the broker queues published messages
		said = a.Log().Await(t, said, "mqtt connected")
	}
	b := r.start("b")
	r.awaitShares(a, b)
	l := proof.StartLoad(t, proof.LoadOptions{Addr: addr, Devices: 200, Total: 6000, Rate: 2000, Attested: true, Reconnect: true})
	l.Release(2000)
	require.True(t, l.Await(2000))
	stored := func() int {
		s, err := r.js.Stream(t.Context(), "TELEMETRY")
		require.NoError(t, err)
		return int(s.CachedInfo().State.Msgs)
	}
	proof.Eventually(t, func() bool { return stored() == 2000 }, func() any { return stored() })

	a.nats.each(func(p *peers.TCPProxy) { p.Impair(peers.Impairment{Hold: true}, peers.Impairment{Hold: true}) })
	l.Release(4000)
	require.True(t, l.Await(4000))
	var status struct {
		Totals struct {
			InFlight int `json:"in_flight"`
		}
	}
	proof.Eventually(t, func() bool {
		require.Equal(t, http.StatusOK, proof.GetPage(t, a.Process, 0, "/status", &status))
		return stored()+status.Totals.InFlight >= 4000
	}, func() any { return status })
	held := status.Totals.InFlight
	require.Positive(t, held)
	said = len(b.Log().String())
	require.NoError(t, devices.Close())
	devices, err = broker.Open(broker.Options{Listen: addr})
	require.NoError(t, err)

	r.awaitShares(b)
	for range 16 { // all partitions, as after the first start
		said = b.Log().Await(t, said, "mqtt connected")
	}
	l.Release(6000)
	require.True(t, l.Await(6000))
	r.markPartitions()
	before := stored()
	a.nats.each((*peers.TCPProxy).Mend)
	r.awaitShares(a, b)
	r.markPartitions()
	v := l.Reconcile(proof.ReadLoad(t, r.js, "TELEMETRY"))
	t.Logf("%v; replica a had %d in flight, %d of them were stored late", v, held, stored()-before-16)
	require.Zero(t, v.Duplicated+v.Foreign, v)
	require.LessOrEqual(t, v.Inversions+v.Lost, held, v)
}
