package links

import (
	"testing"
	"time"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/proof"
)

// weathers are what a link may do that does not end its connections.
func weathers() map[string][2]peers.Weather {
	const (
		slow  = 100 << 10 // bytes per second: less than the load
		delay = 30 * time.Millisecond
	)
	w := func(towards, back peers.Weather) [2]peers.Weather { return [2]peers.Weather{towards, back} }
	vanish, hold := peers.Weather{Vanish: true}, peers.Weather{Hold: true}
	late, rate := peers.Weather{Latency: delay}, peers.Weather{Rate: slow}
	return map[string][2]peers.Weather{
		"half-open, nothing gets there": w(vanish, peers.Weather{}),
		"half-open, nothing comes back": w(peers.Weather{}, vanish),
		"silent both ways":              w(vanish, vanish),
		"held up":                       w(hold, hold),
		"latency":                       w(late, late),
		"slow there":                    w(rate, peers.Weather{}),
		"slow back":                     w(peers.Weather{}, rate),
	}
}

// What a link swallows, holds up or lets trickle is neither lost nor taken for
// stored, on either side of the bridge.
func TestAPoorLinkOnEitherSideCostsNothing(t *testing.T) {
	t.Parallel()
	lasts := proof.Shorter(10 * time.Second)
	o := proof.LoadOptions{Devices: 100, Rate: 1000, Total: 1000 * int((lasts+6*time.Second)/time.Second)}
	for name, w := range weathers() {
		for side, proxy := range map[string]func(*proof.Rig) *peers.TCPProxy{
			"MQTT link": func(r *proof.Rig) *peers.TCPProxy { return r.Proxy },
			"NATS link": func(r *proof.Rig) *peers.TCPProxy { return r.NATSProxies[0] },
		} {
			if proof.Quick() && name != "silent both ways" && name != "slow back" {
				continue
			}
			t.Run(side+"/"+name, func(t *testing.T) {
				t.Parallel()
				proof.Survive(t, proof.Fault{Name: side + " " + name, Rig: proof.BothProxied, Strike: func(r *proof.Rig) {
					proxy(r).Impair(w[0], w[1])
					time.Sleep(lasts) // the fault itself
					proxy(r).Mend()
				}}, "1,000 per second", o)
			})
		}
	}
}
