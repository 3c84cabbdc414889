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

// crew is all simulated devices, one for each role. No device reconnects, and so none
// ever sends anything twice: what is acknowledged can be compared with what arrived, one
// to one.
type crew struct {
	fleet.Fleet
	roles []role
}

// newCrew issues certificates and connects everybody; nothing is published yet.
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
		// In this order, so that a message on its way in between never shows
		// as acknowledged and not sent.
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
