package cluster

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/lease"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/internal/wire"
)

// fleetRig is a real mosquitto, a real nats-server and replicas of the bridge as processes.
// Each replica has its own links to both.
type fleetRig struct {
	t       testing.TB
	broker  *peers.MosquittoProcess // nil: the test runs its own broker
	addr    string                  // of the broker
	nats    *peers.NATSProcess      // the single server; nil: a cluster
	cluster *peers.NATSCluster
	js      natsjs.JetStream
	kv      natsjs.KeyValue // nil until a replica has created it
}

// replica is one bridge process of the fleet.
type replica struct {
	*peers.Process
	name   string
	broker *peers.TCPProxy
	nats   links
	id     string
}

// links are a replica's links to the nats-servers.
type links []*peers.TCPProxy

func (l links) each(do func(*peers.TCPProxy)) {
	for _, p := range l {
		do(p)
	}
}

func newFleetRig(t testing.TB) *fleetRig {
	r := &fleetRig{t: t}
	r.broker = peers.Mosquitto(t, peers.MosquittoOptions{MaxInflight: 1000})
	r.addr = r.broker.Addr
	r.nats = peers.NATSServer(t, peers.NATSOptions{})
	r.js = proof.ConnectNATS(t, r.nats.URL)
	return r
}

var replicaID = regexp.MustCompile(`"replica":"([0-9a-z]+)"`)

// newClusterRig returns a rig with three nats-servers and a broker that keeps its sessions.
func newClusterRig(t testing.TB) *fleetRig {
	r := &fleetRig{t: t}
	r.broker = peers.Mosquitto(t, peers.MosquittoOptions{Persistence: true, MaxInflight: 1000})
	r.addr = r.broker.Addr
	r.cluster = peers.Cluster(t)
	// A frozen server does not close its connections.
	r.js = proof.ConnectNATS(t, r.cluster.URL(), nats.PingInterval(500*time.Millisecond), nats.MaxPingsOutstanding(2))
	return r
}

// start starts a replica and waits until it has joined.
func (r *fleetRig) start(name string) *replica {
	r.t.Helper()
	p := r.startShare(name, "auto")
	p.Log().Await(r.t, 0, "lease bucket reachable")
	p.id = replicaID.FindStringSubmatch(p.Log().String())[1]
	return p
}

// startShare starts a replica with a share of the partitions.
func (r *fleetRig) startShare(name, partitions string) *replica {
	r.t.Helper()
	var env []string
	p := &replica{name: name, broker: peers.Proxy(r.t, r.addr)}
	servers := []*peers.NATSProcess{r.nats}
	if r.cluster != nil {
		servers = r.cluster.Nodes
		// On a restart, mosquitto 2.0.11 loses $share subscriptions but keeps the session.
		env = append(env, "BRIDGE_STREAMS_REPLICAS=3", "BRIDGE_MQTT_KEEPALIVE=2s", "BRIDGE_MQTT_SHARE=off")
	}
	var urls []string
	for _, s := range servers {
		p.nats = append(p.nats, peers.Proxy(r.t, s.Addr))
		urls = append(urls, "nats://"+p.nats[len(p.nats)-1].Addr)
	}
	p.Process = peers.Bridge(r.t, peers.BridgeOptions{Args: []string{"run"}, Env: append([]string{
		"MQTT_URL=mqtt://" + p.broker.Addr,
		"NATS_URL=" + strings.Join(urls, ","),
		"BRIDGE_LANES_PARTITIONS=" + partitions,
		"BRIDGE_LIMITS_DEVICE_RATE=0",
		"BRIDGE_ADMIN_LISTEN=127.0.0.1:0",
		"BRIDGE_LOG_FORMAT=json",
	}, env...)})
	return p
}

// holders returns the leased partitions by replica name, read from the bucket; "" contains the
// unleased ones.
func (r *fleetRig) holders(of ...*replica) map[string][]string {
	r.t.Helper()
	if r.kv == nil {
		var err error
		r.kv, err = r.js.KeyValue(r.t.Context(), "BRIDGE_LANES")
		require.NoError(r.t, err)
	}
	held := map[string][]string{}
	for _, p := range strings.Split("0123456789abcdef", "") {
		var record lease.Record
		if e, err := r.kv.Get(r.t.Context(), "bridge.p"+p); err == nil {
			require.NoError(r.t, json.Unmarshal(e.Value(), &record))
		}
		name := record.Owner
		for _, one := range of {
			if one.id == record.Owner {
				name = one.name
			}
		}
		held[name] = append(held[name], p)
	}
	return held
}

// awaitShares waits until exactly these replicas have leased all partitions, in shares that
// differ by at most one. It returns the elapsed time.
func (r *fleetRig) awaitShares(of ...*replica) time.Duration {
	r.t.Helper()
	begun := time.Now()
	var held map[string][]string
	// Allows for the time until a replica's broker connection is trusted.
	proof.EventuallyWithin(r.t, 2*testrun.Timeout, func() bool {
		held = r.holders(of...)
		least, most := 16, 0
		for _, one := range of {
			n := len(held[one.name])
			least, most = min(least, n), max(most, n)
		}
		return len(held) == len(of) && most-least <= 1
	}, func() any { return held })
	return time.Since(begun)
}

// awaitRenewals waits until every lease has been renewed after the given time.
func (r *fleetRig) awaitRenewals(since time.Time) {
	r.t.Helper()
	var old []string
	proof.EventuallyWithin(r.t, 2*testrun.Timeout, func() bool {
		old = nil
		for _, p := range strings.Split("0123456789abcdef", "") {
			if e, err := r.kv.Get(r.t.Context(), "bridge.p"+p); err != nil || e.Created().Before(since) {
				old = append(old, p)
			}
		}
		return len(old) == 0
	}, func() any { return old })
}

// markPartitions publishes a marker in every partition and waits until all are stored. The
// timeout restarts whenever the stream grows.
func (r *fleetRig) markPartitions() {
	r.t.Helper()
	conn, err := proof.DialMQTT(r.addr, "marker", "")
	require.NoError(r.t, err)
	defer conn.Close()
	marked := map[string]string{}
	for i := 0; len(marked) < 16; i++ {
		cn := fmt.Sprintf("proof/marker-%d", i)
		if marked[broker.Partition(cn)] != "" {
			continue
		}
		marked[broker.Partition(cn)] = fmt.Sprintf("%s%d.telemetry", proof.PartitionMarker, i)
		a := broker.Attest("bridge/v1", fmt.Sprintf("%032X", time.Now().UnixNano()), time.Now(), cn, "tenant/"+strings.Replace(cn, "/", "/device/", 1)+"/telemetry")
		_, err := conn.Write(wire.AppendPublish(nil, wire.QoS1, a.Render(), proof.PacketID(i), []byte("the end")))
		require.NoError(r.t, err)
		proof.ReadPuback(r.t, conn, proof.PacketID(i))
	}
	var last uint64
	progress := time.Now()
	for len(marked) > 0 {
		// A replicated stream may have no leader at the moment.
		s, err := r.js.Stream(r.t.Context(), "TELEMETRY")
		for p, subject := range marked {
			if err != nil {
				break
			}
			if _, err := s.GetLastMsgForSubject(r.t.Context(), subject); err == nil {
				delete(marked, p)
			}
		}
		if err == nil && s.CachedInfo().State.LastSeq != last {
			last, progress = s.CachedInfo().State.LastSeq, time.Now()
		}
		require.Less(r.t, time.Since(progress), testrun.Timeout, "the end of the load never came in %v; the stream is at %d", marked, last)
		time.Sleep(50 * time.Millisecond)
	}
}

// event is a change of the fleet and its measured effect.
type event struct {
	name   string
	inject func()
	// share is the time until the partitions were rebalanced.
	share time.Duration
	from  time.Time
}

// silence returns the longest time between from and to in which a partition stored no message,
// and the number of inversions in that period.
func silence(l *proof.Load, all []proof.Stored, from, to time.Time) (longest time.Duration, inversions int) {
	last := map[string]time.Time{}
	latest := map[string]uint64{}
	for _, s := range all {
		tenant, name := proof.Device(int(s.Message) % l.Devices)
		p := broker.Partition(tenant + "/" + name)
		within := s.At.After(from) && s.At.Before(to)
		if before, ok := last[p]; ok && within {
			longest = max(longest, s.At.Sub(before))
		}
		if within && s.Message < latest[s.Subject] {
			inversions++
		}
		last[p], latest[s.Subject] = s.At, max(latest[s.Subject], s.Message)
	}
	return longest, inversions
}

// Under continuous load, a fleet grows to three replicas. One freezes and resumes, one loses
// NATS and reconnects, one is killed and one is stopped. Every message that the broker
// acknowledged to the publisher is stored exactly once.
func TestPartitionMoves(t *testing.T) {
	t.Parallel()
	testrun.SkipQuick(t, "six changes of replicas take a minute")
	const rate = 1500
	r := newFleetRig(t)
	a := r.start("a")
	r.awaitShares(a)
	said := 0
	for range 16 { // from then on the broker queues published messages
		said = a.Log().Await(t, said, "mqtt connected")
	}
	var b, c *replica
	const more = 3500 * time.Millisecond // after its replacement
	events := []*event{
		{name: "1 → 3: two join", inject: func() {
			b, c = r.start("b"), r.start("c")
			r.awaitShares(a, b, c)
		}},
		{name: "SIGSTOP, until replaced and 3.5 s more", inject: func() {
			b.Freeze()
			r.awaitShares(a, c)
			time.Sleep(more) // duration of the fault
			b.Thaw()
			r.awaitShares(a, b, c)
		}},
		{name: "cut off from NATS, as long", inject: func() {
			c.nats.each(func(p *peers.TCPProxy) { p.Down() })
			r.awaitShares(a, b)
			time.Sleep(more) // duration of the fault
			c.nats.each((*peers.TCPProxy).Up)
			r.awaitShares(a, b, c)
		}},
		{name: "nats-server killed, back after 12 s", inject: func() {
			before := r.holders(a, b, c)
			r.nats.Kill9()
			// Longer than the lease TTL, so all leases expire, but no replica acquires
			// another's.
			time.Sleep(12 * time.Second)
			// After the restart, the server still returns the old leases until it has checked
			// their age.
			restarted := time.Now()
			r.nats.Start()
			r.awaitRenewals(restarted)
			require.Equal(t, before, r.holders(a, b, c), "nothing moved")
		}},
		{name: "3 → 2: kill -9", inject: func() {
			b.Kill9()
			r.awaitShares(a, c)
		}},
		{name: "2 → 1: SIGTERM", inject: func() {
			begun := time.Now()
			require.Zero(t, a.Stop(), "exit code")
			proof.RequireNeverSays(t, a.Log(), "abandoned")
			t.Logf("the replica stopped within %.1f s", time.Since(begun).Seconds())
			r.awaitShares(c)
		}},
	}
	r.injectAll(rate, events)
	require.Zero(t, c.Stop(), "exit code")
	for _, p := range []*replica{a, b, c} {
		requireNoComplaints(t, p)
	}
}

// injectAll injects the events one after the other under a load of rate messages per second. It
// requires that every message acknowledged to the publisher is stored once and in order.
func (r *fleetRig) injectAll(rate int, events []*event) {
	t := r.t
	t.Helper()
	l := proof.StartLoad(t, proof.LoadOptions{Addr: r.broker.Addr, Devices: 200, Total: 300 * rate, Rate: rate, Attested: true})
	released := 0
	// The load continues during a fault: each second releases one second's worth of messages.
	feed := make(chan struct{})
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				released = min(released+rate/10, l.Total)
				l.Release(released)
			case <-feed:
				return
			}
		}
	}()
	for _, e := range events {
		require.True(t, l.Await(l.Sent()+2*rate), "under load")
		e.from = time.Now()
		e.inject()
		e.share = time.Since(e.from)
	}
	require.True(t, l.Await(l.Sent()+rate))
	close(feed)
	<-fed
	require.True(t, l.Await(released))
	r.markPartitions()

	all := proof.ReadLoad(t, r.js, "TELEMETRY")
	v := l.Reconcile(all)
	var table strings.Builder
	for i, e := range events {
		to := time.Now()
		if i+1 < len(events) {
			to = events[i+1].from
		}
		gap, inversions := silence(l, all, e.from, to)
		fmt.Fprintf(&table, "%-40s shared out again after %5.1f s, longest silence of a partition %5.1f s, %d inversions\n",
			e.name, e.share.Seconds(), gap.Seconds(), inversions)
	}
	t.Logf("%d messages per second:\n%s%v", rate, &table, v)
	require.Equal(t, released, v.Acked)
	require.Zero(t, v.Lost, v)
	require.Zero(t, v.Duplicated, v)
	require.Zero(t, v.Foreign, v)
	require.Zero(t, v.Inversions, v)
}

// A replica that reaches NATS but not the broker hands its partitions over to one that reaches
// both. While neither replica reaches the broker, no partition moves.
func TestReplicaWithoutBroker(t *testing.T) {
	testrun.SkipQuick(t, "the same under virtual time is in internal/lease; here it takes over two minutes")
	t.Parallel()
	r := newFleetRig(t)
	a := r.start("a")
	r.awaitShares(a)
	said := 0
	for range 16 {
		said = a.Log().Await(t, said, "mqtt connected")
	}
	b := r.start("b")
	r.awaitShares(a, b)
	var ready struct{ Problems []daemon.Problem }
	time.Sleep(50 * time.Second) // until each broker connection is trusted
	r.injectAll(300, []*event{
		{name: "one loses the broker", inject: func() {
			b.broker.Down()
			r.awaitShares(a)
			b.Log().Await(t, 0, "broker unreachable from this replica, on standby")
			require.Equal(t, http.StatusServiceUnavailable, proof.GetPage(t, b.Process, 0, "/readyz", &ready))
			// Each replica reaches the broker through its own proxy, so the addresses differ.
			ready.Problems = slices.DeleteFunc(ready.Problems, func(p daemon.Problem) bool { return strings.Contains(p.Problem, "connects to another broker") })
			require.Len(t, ready.Problems, 1, "%+v", ready)
			require.Equal(t, "mqtt", ready.Problems[0].Component)
			require.Contains(t, ready.Problems[0].Problem, "this replica cannot reach the broker")
			require.NotEmpty(t, ready.Problems[0].Advice) // the proxy resets what it accepts, before or after CONNECT
		}},
		{name: "and finds it again", inject: func() {
			b.broker.Up()
			r.awaitShares(a, b)
		}},
		{name: "the broker is unreachable for both, for 20 s", inject: func() {
			before := r.holders(a, b)
			a.broker.Down()
			b.broker.Down()
			time.Sleep(20 * time.Second) // duration of the fault
			a.broker.Up()
			b.broker.Up()
			require.Equal(t, before, r.holders(a, b), "nothing moved")
		}},
	})
	for _, p := range []*replica{a, b} {
		require.Zero(t, p.Stop(), "exit code")
		requireNoComplaints(t, p)
	}
}

// requireNoComplaints requires that the replica logged no contested client id, lost session or
// permission error.
func requireNoComplaints(t testing.TB, p *replica) {
	t.Helper()
	for _, bad := range []string{"another client seems to use", "the broker has lost the session", "ermissions"} {
		proof.RequireNeverSays(t, p.Log(), bad)
	}
}
