package cluster

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
)

// minutesVariable sets the length of the mixed run, in minutes.
const minutesVariable = "FAULT_MINUTES"

// mixedFor is how long faults are injected in a mixed run.
func mixedFor(t testing.TB) time.Duration {
	t.Helper()
	text := os.Getenv(minutesVariable)
	if text == "" {
		return 20 * time.Second
	}
	minutes, err := strconv.ParseFloat(text, 64)
	if err != nil || minutes <= 0 {
		t.Fatalf("%s=%s is no number of minutes", minutesVariable, text)
	}
	return time.Duration(minutes * float64(time.Minute))
}

// mixedRate keeps the queue of the longest outage below the number of messages that mosquitto
// 2.0.11 can redeliver distinguishably (see keepsWindow).
const mixedRate = 700

// impairment is one fault of the mixed run. Each side has at most one active impairment; those
// of different sides can overlap.
type impairment struct {
	name  string
	lasts time.Duration // maximum; 0: it has no duration
	begin func() (end func())
}

// mqttImpairments returns the faults of the bridge, the broker and the link between them.
func mqttImpairments(r *proof.Rig) []impairment {
	over := func() {}
	impaired := func(name string, towards, back peers.Impairment) impairment {
		return impairment{"MQTT link " + name, 6 * time.Second, func() func() {
			r.Proxy.Impair(towards, back)
			return r.Proxy.Mend
		}}
	}
	return []impairment{
		{"bridge killed", 3 * time.Second, func() func() {
			r.Bridge.Kill9()
			return r.Bridge.Start
		}},
		{"bridge stopped", 3 * time.Second, func() func() {
			// Messages that NATS does not confirm within stop_timeout are abandoned, and the
			// exit code reports it.
			r.Bridge.Stop()
			return r.Bridge.Start
		}},
		{"bridge frozen", 6 * time.Second, func() func() {
			r.Bridge.Freeze()
			return r.Bridge.Thaw
		}},
		{"bridge kicked", 0, func() func() {
			r.Broker.Kick(proof.ClientID)
			return over
		}},
		{"mosquitto restarted", 0, func() func() {
			r.Broker.Restart()
			return over
		}},
		{"MQTT link cut", 0, func() func() {
			r.Proxy.Cut()
			return over
		}},
		{"MQTT link down", 8 * time.Second, func() func() {
			r.Proxy.Down()
			return r.Proxy.Up
		}},
		impaired("half-open outbound", peers.Impairment{Vanish: true}, peers.Impairment{}),
		impaired("half-open inbound", peers.Impairment{}, peers.Impairment{Vanish: true}),
		impaired("stalled", peers.Impairment{Hold: true}, peers.Impairment{Hold: true}),
		impaired("latency", peers.Impairment{Latency: 20 * time.Millisecond}, peers.Impairment{Latency: 20 * time.Millisecond}),
		impaired("slow inbound", peers.Impairment{}, peers.Impairment{Rate: 100 << 10}),
	}
}

// natsImpairments returns the faults of the servers, the stream and the links to them.
func natsImpairments(r *proof.Rig) []impairment {
	over := func() {}
	all := func(do func(*peers.TCPProxy)) {
		for _, p := range r.NATSProxies {
			do(p)
		}
	}
	impaired := func(name string, towards, back peers.Impairment) impairment {
		return impairment{"NATS link " + name, 8 * time.Second, func() func() {
			all(func(p *peers.TCPProxy) { p.Impair(towards, back) })
			return func() { all((*peers.TCPProxy).Mend) }
		}}
	}
	list := []impairment{
		{"NATS link cut", 0, func() func() {
			all(func(p *peers.TCPProxy) { p.Cut() })
			return over
		}},
		{"NATS link down", 10 * time.Second, func() func() {
			all(func(p *peers.TCPProxy) { p.Down() })
			return func() { all((*peers.TCPProxy).Up) }
		}},
		impaired("half-open outbound", peers.Impairment{Vanish: true}, peers.Impairment{}),
		impaired("half-open inbound", peers.Impairment{}, peers.Impairment{Vanish: true}),
		impaired("stalled", peers.Impairment{Hold: true}, peers.Impairment{Hold: true}),
		impaired("latency", peers.Impairment{Latency: 20 * time.Millisecond}, peers.Impairment{Latency: 20 * time.Millisecond}),
		impaired("slow outbound", peers.Impairment{Rate: 100 << 10}, peers.Impairment{}),
		{"stream full", 6 * time.Second, func() func() {
			r.LimitStream(500)
			return func() { r.LimitStream(-1) }
		}},
	}
	if r.Cluster == nil {
		return append(list,
			impairment{"nats-server killed", 10 * time.Second, func() func() {
				r.NATS.Kill9()
				return r.NATS.Start
			}},
			impairment{"nats-server frozen", 8 * time.Second, func() func() {
				r.NATS.Freeze()
				return r.NATS.Thaw
			}},
		)
	}
	return append(list,
		impairment{"leader killed", 10 * time.Second, func() func() {
			leader := r.Cluster.Leader("TELEMETRY")
			leader.Kill9()
			return func() {
				leader.Start()
				r.Cluster.AwaitCurrent("TELEMETRY")
			}
		}},
		impairment{"leader steps down", 0, func() func() {
			r.Cluster.StepDown("TELEMETRY")
			return over
		}},
		impairment{"a follower frozen", 10 * time.Second, func() func() {
			leader := r.Cluster.Leader("TELEMETRY")
			others := slices.DeleteFunc(slices.Clone(r.Cluster.Nodes), func(n *peers.NATSProcess) bool { return n == leader })
			other := others[r.Random.IntN(len(others))]
			other.Freeze()
			return func() {
				other.Thaw()
				r.Cluster.AwaitCurrent("TELEMETRY")
			}
		}},
		impairment{"rolling restart", 0, func() func() {
			r.Cluster.RollingRestart("TELEMETRY")
			return over
		}},
	)
}

// side injects impairments one after the other, with pauses in between.
type side struct {
	random *rand.Rand
	list   []impairment
	order  []impairment // left in this round
	now    impairment
	end    func() // nil: no active impairment
	next   time.Time
}

// draw returns every impairment once before it repeats one.
func (s *side) draw() impairment {
	if len(s.order) == 0 {
		s.order = slices.Clone(s.list)
		s.random.Shuffle(len(s.order), func(i, j int) { s.order[i], s.order[j] = s.order[j], s.order[i] })
	}
	a := s.order[0]
	s.order = s.order[1:]
	return a
}

// turn begins or ends the impairment that is due, and logs it.
func (s *side) turn(say func(string)) {
	between := func(least, most time.Duration) time.Time {
		return time.Now().Add(least + time.Duration(s.random.Int64N(int64(most-least)+1)))
	}
	if s.end != nil {
		say("over: " + s.now.name)
		s.end()
		s.end = nil
		s.next = between(time.Second, 5*time.Second)
		return
	}
	s.now = s.draw()
	say(s.now.name)
	s.end = s.now.begin()
	if s.now.lasts == 0 {
		s.end = nil
		s.next = between(time.Second, 5*time.Second)
		return
	}
	s.next = between(s.now.lasts/4, s.now.lasts)
}

// Injects all faults into one running system, on both sides concurrently, in an order drawn
// from the seed. FAULT_MINUTES sets the duration.
func TestMixedFaults(t *testing.T) {
	t.Parallel()
	if testrun.Quick() && os.Getenv(minutesVariable) == "" {
		t.Skip("each fault has its own test: BRIDGE_FAULTS=1 runs them mixed")
	}
	for name, cluster := range map[string]bool{"one nats-server": false, "three nats-servers": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mixed(t, name, cluster, mixedFor(t))
		})
	}
}

func mixed(t *testing.T, name string, cluster bool, lasts time.Duration) {
	random := proof.Random(t)
	o := proof.BothProxied
	o.Cluster = cluster
	r := proof.NewRig(t, o)
	r.Random = random
	l := proof.StartLoad(t, proof.LoadOptions{
		Addr: r.Broker.Addr, Devices: 200, Size: 64, Rate: mixedRate, Reconnect: true,
		Total: mixedRate * int(lasts/time.Second),
	})
	l.Release(l.Total)
	injected := chaos(t, random, lasts, mqttImpairments(r), natsImpairments(r))
	v := r.Finish(l)
	proof.Report("all mixed, "+name, fmt.Sprintf("%v, %d faults", lasts, injected), v)
	t.Log(v)
	require.True(t, v.Clean(), v)
}

// chaos injects the faults of all sides for the given duration, each side independently, and
// returns how many were injected.
func chaos(t testing.TB, random *rand.Rand, lasts time.Duration, lists ...[]impairment) (injected int) {
	t.Helper()
	began := time.Now()
	var log []string
	say := func(what string) {
		if !strings.HasPrefix(what, "over: ") {
			injected++
		}
		now := time.Now() // UTC, as in the logs
		log = append(log, fmt.Sprintf("%s  %7.2f s  %s", now.UTC().Format("15:04:05.000"), now.Sub(began).Seconds(), what))
	}
	t.Cleanup(func() { t.Logf("what was injected, and when:\n%s", strings.Join(log, "\n")) })
	var sides []*side
	for i, list := range lists {
		sides = append(sides, &side{random: rand.New(rand.NewPCG(random.Uint64(), uint64(i)+1)), list: list})
	}
	for _, s := range sides {
		s.next = began.Add(time.Duration(s.random.Int64N(int64(3 * time.Second))))
	}
	for end := began.Add(lasts); time.Now().Before(end); {
		s := slices.MinFunc(sides, func(a, b *side) int { return a.next.Compare(b.next) })
		time.Sleep(time.Until(s.next))
		s.turn(say)
	}
	for _, s := range sides {
		if s.end != nil {
			s.turn(say)
		}
	}
	return injected
}
