package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/fleet"
	"mqtt-nats-bridge/internal/pki"
	"mqtt-nats-bridge/internal/wire"
)

// crew contains the simulated devices, one per role. Devices do not reconnect, so they never send a
// message twice. Acknowledged and received messages can therefore be compared one to one.
type crew struct {
	fleet.Fleet
	roles []role
}

// newCrew issues certificates and connects all devices. They do not publish yet.
func newCrew(ctx context.Context, roles []role, url string, authority *pki.Authority) (*crew, error) {
	f := &crew{roles: roles}
	for i, r := range roles {
		certificate, err := authority.ClientConfig(r.cn)
		if err != nil {
			return nil, fmt.Errorf("issue certificate of device %q: %w", r.client, err)
		}
		f.Devices = append(f.Devices, fleet.New(fleet.Options{
			Address: strings.TrimPrefix(url, "ssl://"), TLS: certificate,
			Connect: wire.Connect{ClientID: r.client, KeepAlive: 30 * time.Second},
			Window:  r.window,
			Every:   r.every, Delay: r.every * time.Duration(i) / time.Duration(len(roles)),
			Message: r.message,
		}))
	}
	return f, f.Connect(ctx)
}

func (f *crew) tally() tally {
	t := tally{Devices: len(f.Devices)}
	for i, d := range f.Devices {
		// Acked is read before Sent, so that a message in between is never counted as acknowledged
		// but not sent.
		acked := d.Acked()
		t.Acked += acked
		t.Sent += d.Sent()
		if f.roles[i].breaks == verdict.Accepted {
			t.HonestAcked += acked
		}
		if d.Connected() {
			t.Connected++
		}
	}
	return t
}
