package demo

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// patience is how long a device waits for a CONNACK or a PUBACK.
const patience = 10 * time.Second

// device is one simulated device: an MQTT client with a certificate of its own
// that has one message under way at a time.
type device struct {
	role   role
	client paho.Client

	sent  atomic.Uint64 // publishes begun
	acked atomic.Uint64 // publishes that got their PUBACK
}

// newDevice does not reconnect and so never sends anything twice: what is
// acknowledged can be compared with what arrived, one to one.
func newDevice(r role, url string, certificate *tls.Config) *device {
	o := paho.NewClientOptions().AddBroker(url).SetTLSConfig(certificate).
		SetClientID(r.client).SetProtocolVersion(4).SetCleanSession(true).
		SetAutoReconnect(false).SetConnectTimeout(patience).SetOrderMatters(false)
	return &device{role: r, client: paho.NewClient(o)}
}

func (d *device) connect(ctx context.Context) error {
	if err := await(ctx, d.client.Connect()); err != nil {
		return fmt.Errorf("connect device %q: %w", d.role.client, err)
	}
	return nil
}

// run publishes until ctx ends. A publish under way then is waited for. delay is
// before the first one, so that the devices do not march in step.
func (d *device) run(ctx context.Context, delay time.Duration) error {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil
	case <-timer.C:
	}
	// A ticker drops what a slow receiver misses: a device held up does not
	// catch up in a burst, which would get it limited.
	ticker := time.NewTicker(d.role.every)
	defer ticker.Stop()
	for n := 0; ; n++ {
		topic, payload := d.role.message(n)
		d.sent.Add(1)
		if err := await(context.WithoutCancel(ctx), d.client.Publish(topic, 1, false, payload)); err != nil {
			return fmt.Errorf("publish message %d of device %q: %w", n+1, d.role.client, err)
		}
		d.acked.Add(1)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (d *device) disconnect() { d.client.Disconnect(250) }

var errNoAnswer = errors.New("the broker does not answer")

func await(ctx context.Context, token paho.Token) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errNoAnswer)
	defer cancel()
	select {
	case <-token.Done():
		return token.Error()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
