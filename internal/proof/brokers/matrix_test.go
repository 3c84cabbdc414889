package brokers

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
)

// matrixWindow is the duplicate window of the matrix, in seconds.
const matrixWindow = 2

// matrixFault is the duration of a fault.
type matrixFault struct {
	rig    proof.RigOptions
	inject func(r *proof.Rig, away time.Duration)
}

var matrixFaults = map[string]matrixFault{
	"bridge killed": {inject: func(r *proof.Rig, away time.Duration) {
		r.Bridge.Kill9()
		time.Sleep(away)
		r.StartBridge()
	}},
	"NATS killed": {inject: func(r *proof.Rig, away time.Duration) {
		r.NATS.Kill9()
		time.Sleep(away)
		r.NATS.Start()
	}},
	"both killed": {inject: func(r *proof.Rig, away time.Duration) {
		r.NATS.Kill9()
		time.Sleep(time.Duration(r.Random.IntN(int(300 * time.Millisecond)))) // let messages queue for NATS
		r.Bridge.Kill9()
		time.Sleep(away)
		r.NATS.Start()
		r.StartBridge()
	}},
	"MQTT cut": {rig: proof.RigOptions{MQTTProxy: true}, inject: func(r *proof.Rig, away time.Duration) {
		require.Positive(r.T, r.Proxy.Down())
		time.Sleep(away)
		r.Proxy.Up()
	}},
	"bridge frozen": {inject: func(r *proof.Rig, away time.Duration) {
		r.Bridge.Freeze()
		time.Sleep(away)
		r.Bridge.Thaw()
	}},
}

// matrixOutages includes outages shorter and longer than the duplicate window.
var matrixOutages = map[string]time.Duration{
	"short": matrixWindow * time.Second / 2,
	"long":  matrixWindow * time.Second * 5 / 2,
}

// Combines every broker, fault, payload kind and outage length. No message is lost, and each
// device's order is kept. The only duplicates are redeliveries that cannot be distinguished
// from new messages.
func TestBrokerMatrix(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("real brokers, and outages longer than the duplicate window")
	}
	n := 0
	for name, b := range matrixBrokers() {
		rows := n
		n += 100
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, drain := b.start(t)
			for fault, f := range matrixFaults {
				for _, payload := range []string{"distinct", "identical"} {
					for outage, away := range matrixOutages {
						sample := fault == "both killed" && payload == "identical" && outage == "long"
						if os.Getenv(testrun.FaultsVariable) != "1" && !sample {
							continue
						}
						rows++
						topic := fmt.Sprintf("row%d", rows)
						t.Run(fmt.Sprintf("%s/%s/%s", fault, payload, outage), func(t *testing.T) {
							t.Parallel()
							f := f // each row sets its own rig
							f.rig.Broker, f.rig.Topic = addr, topic
							o := proof.LoadOptions{Addr: addr, Topic: topic, Devices: 20, Total: 3000, Rate: 1000}
							if payload == "identical" {
								o.Devices, o.Identical = 1, true
							}
							v, ended := matrixRow(t, f, o, away, drain)
							proof.Report(name+": "+fault, payload+", outage of "+away.String(), v)
							b.check(t, v, ended)
						})
					}
				}
			}
		})
	}
}

// matrixRow injects the fault once, in the first half of the load. The load continues during
// the outage. It reports whether a connection to the broker ended: a nats-server short of CPU
// time closes connections too.
func matrixRow(t *testing.T, f matrixFault, o proof.LoadOptions, away time.Duration, drain func(testing.TB, string)) (v proof.Verdict, ended bool) {
	t.Helper()
	random := proof.Random(t)
	f.rig.Env = []string{fmt.Sprintf("BRIDGE_STREAMS_DUPLICATE_WINDOW=%ds", matrixWindow)}
	r := proof.NewRig(t, f.rig)
	r.Random = random
	l := proof.StartLoad(t, o)
	l.Release(o.Total)
	require.True(t, l.Await(o.Total/6+random.IntN(o.Total/3)))
	time.Sleep(time.Duration(random.IntN(int(50 * time.Millisecond)))) // a random moment, not only right after a PUBACK
	f.inject(r, away)
	if drain != nil {
		l.AwaitEnd(t)
		drain(t, o.Topic)
	}
	v = r.Finish(l)
	connects := strings.Count(r.Bridge.Log().String(), `"mqtt connected"`)
	require.Positive(t, connects)
	t.Log(v, "connections", connects)
	return v, connects > 1
}
