package links

import (
	"testing"
	"time"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
)

// impairments returns the link faults that do not end connections.
func impairments() map[string][2]peers.Impairment {
	const (
		slow  = 100 << 10 // bytes per second: less than the load
		delay = 30 * time.Millisecond
	)
	w := func(towards, back peers.Impairment) [2]peers.Impairment { return [2]peers.Impairment{towards, back} }
	vanish, hold := peers.Impairment{Vanish: true}, peers.Impairment{Hold: true}
	late, rate := peers.Impairment{Latency: delay}, peers.Impairment{Rate: slow}
	return map[string][2]peers.Impairment{
		"half-open, outbound lost":  w(vanish, peers.Impairment{}),
		"half-open, inbound lost":   w(peers.Impairment{}, vanish),
		"silent in both directions": w(vanish, vanish),
		"stalled":                   w(hold, hold),
		"latency":                   w(late, late),
		"slow outbound":             w(rate, peers.Impairment{}),
		"slow inbound":              w(peers.Impairment{}, rate),
	}
}

// A message that a link drops, delays or slows down, on either side of the bridge, is neither
// lost nor considered stored.
func TestPoorLink(t *testing.T) {
	t.Parallel()
	lasts := proof.Shorter(10 * time.Second)
	o := proof.LoadOptions{Devices: 100, Rate: 1000, Total: 1000 * int((lasts+6*time.Second)/time.Second)}
	for name, w := range impairments() {
		for side, proxy := range map[string]func(*proof.Rig) *peers.TCPProxy{
			"MQTT link": func(r *proof.Rig) *peers.TCPProxy { return r.Proxy },
			"NATS link": func(r *proof.Rig) *peers.TCPProxy { return r.NATSProxies[0] },
		} {
			if testrun.Quick() && name != "slow inbound" {
				continue
			}
			t.Run(side+"/"+name, func(t *testing.T) {
				t.Parallel()
				proof.Survive(t, proof.Fault{Name: side + " " + name, Rig: proof.BothProxied, Inject: func(r *proof.Rig) {
					proxy(r).Impair(w[0], w[1])
					time.Sleep(lasts) // duration of the fault
					proxy(r).Mend()
				}}, "1,000 per second", o)
			})
		}
	}
}
