package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/pki"
)

// connecting bounds the TLS handshakes under way at once.
const connecting = 16

// fleet is all simulated devices.
type fleet struct {
	devices []*device
	cancel  context.CancelFunc
	wait    sync.WaitGroup

	mu   sync.Mutex
	errs []error
}

// newFleet issues certificates and connects everybody; nothing is published yet.
func newFleet(ctx context.Context, roles []role, url string, authority *pki.Authority) (*fleet, error) {
	f := &fleet{}
	for _, r := range roles {
		certificate, err := authority.ClientConfig(r.cn)
		if err != nil {
			return nil, fmt.Errorf("issue certificate of device %q: %w", r.client, err)
		}
		f.devices = append(f.devices, newDevice(r, url, certificate))
	}
	turn := make(chan struct{}, connecting)
	var wait sync.WaitGroup
	for _, d := range f.devices {
		wait.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			f.note(d.connect(ctx))
		})
	}
	wait.Wait()
	if err := f.err(); err != nil {
		f.disconnect()
		return nil, err
	}
	return f, nil
}

// start has everybody publish until stop.
func (f *fleet) start() {
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	for i, d := range f.devices {
		delay := d.role.every * time.Duration(i) / time.Duration(len(f.devices))
		f.wait.Go(func() { f.note(d.run(ctx, delay)) })
	}
}

// stop ends the publishing and returns when every PUBACK has come, or has been
// given up. The devices stay connected.
func (f *fleet) stop() {
	f.cancel()
	f.wait.Wait()
}

func (f *fleet) disconnect() {
	var wait sync.WaitGroup
	for _, d := range f.devices {
		wait.Go(d.disconnect)
	}
	wait.Wait()
}

func (f *fleet) note(err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, err)
}

// err is what went wrong with devices so far.
func (f *fleet) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.errs...)
}

func (f *fleet) tally() tally {
	t := tally{Devices: len(f.devices)}
	for _, d := range f.devices {
		// In this order, so that a message on its way in between never shows
		// as acknowledged and not sent.
		acked := d.acked.Load()
		t.Acked += acked
		t.Sent += d.sent.Load()
		if d.role.breaks == bridge.Accepted {
			t.HonestAcked += acked
		}
		if d.client.IsConnectionOpen() {
			t.Connected++
		}
	}
	return t
}
