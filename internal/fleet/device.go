package fleet

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"mqtt-nats-bridge/internal/wire"
)

// Bounds of the pause before a reconnect: it doubles, with half of it at random, until a
// PUBACK has come.
const (
	minBackoff = 200 * time.Millisecond
	maxBackoff = 2 * time.Second
)

// goodbye bounds the wait for the broker to close a connection.
const goodbye = time.Second

// Options of a device. Address and Connect.ClientID are required; Message is where Run
// is called.
type Options struct {
	Address string      // of the broker, host:port
	TLS     *tls.Config // nil: plain TCP
	Connect wire.Connect
	// Window is how many messages may wait for a PUBACK; 0: 1.
	Window int
	// Every is the time between two messages; a message that falls due while the
	// window is full or the connection is down is never produced, so that a device does
	// not catch up in a burst. 0: as fast as the window allows.
	Every time.Duration
	// Delay is the time before the first message, so that devices do not publish in
	// step.
	Delay time.Duration
	// Count is how many messages there are; 0: until the context ends.
	Count int
	// Message is the n-th message, from 0.
	Message func(n int) (topic string, payload []byte)
	// Reconnect has the device come back when its connection ends, and send again what
	// had no PUBACK. Without it the end of a connection is an error.
	Reconnect bool
	// Drain bounds the wait for outstanding PUBACKs once the context has ended; 0: 10 s.
	Drain time.Duration
	// Hooks may be nil. Sent is called before the n-th message is written, again for
	// each resend; Acked with its PUBACK; Received with each PUBLISH, which is never
	// acknowledged; Lost when a connection ended that had been accepted.
	Sent     func(n int)
	Acked    func(n int)
	Received func(topic string)
	Lost     func(error)
}

// Device is one simulated device.
type Device struct {
	o     Options
	acks  chan struct{} // capacity 1: a PUBACK has come
	sent  atomic.Uint64
	acked atomic.Uint64
	up    atomic.Bool
	links atomic.Uint64
	// refused counts attempts to reconnect that failed.
	refused atomic.Uint64

	mu      sync.Mutex
	link    *link
	flights []flight // oldest first
	id      uint16   // the latest packet id
	calm    bool     // a PUBACK has come over this connection
}

// flight is a PUBLISH without its PUBACK.
type flight struct {
	n       int
	id      uint16
	topic   string
	payload []byte
}

// New returns a device that is not connected yet.
func New(o Options) *Device {
	o.Window = max(o.Window, 1)
	if o.Drain == 0 {
		o.Drain = timeout
	}
	return &Device{o: o, acks: make(chan struct{}, 1)}
}

// ClientID is the device's.
func (d *Device) ClientID() string { return d.o.Connect.ClientID }

// Sent is how many messages were published, resends not counted.
func (d *Device) Sent() uint64 { return d.sent.Load() }

// Acked is how many of them got their PUBACK.
func (d *Device) Acked() uint64 { return d.acked.Load() }

// Connections is how often the broker has accepted the device.
func (d *Device) Connections() uint64 { return d.links.Load() }

// Refused is how many attempts to reconnect failed.
func (d *Device) Refused() uint64 { return d.refused.Load() }

// Connected reports whether the device has a connection.
func (d *Device) Connected() bool { return d.up.Load() }

// SessionPresent is the flag of the latest CONNACK.
func (d *Device) SessionPresent() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.link != nil && d.link.present
}

// Connect connects and sends again what is unacknowledged.
func (d *Device) Connect(ctx context.Context) error {
	l, err := open(ctx, &d.o, d.read)
	if err != nil {
		return fmt.Errorf("connect device %q: %w", d.o.Connect.ClientID, err)
	}
	d.links.Add(1)
	d.up.Store(true)
	d.mu.Lock()
	d.link, d.calm = l, false
	again := append([]flight(nil), d.flights...)
	d.mu.Unlock()
	for _, f := range again {
		d.note(d.o.Sent, f.n)
		if err := l.write(f.packet(wire.Dup)); err != nil {
			break // the connection's end is what Run finds
		}
	}
	return nil
}

func (f *flight) packet(flags byte) []byte {
	return wire.AppendPublish(nil, wire.QoS1|flags, f.topic, f.id, f.payload)
}

func (d *Device) note(hook func(int), n int) {
	if hook != nil {
		hook(n)
	}
}

// read takes a packet of the broker's.
func (d *Device) read(first byte, body []byte) {
	switch first & 0xF0 {
	case wire.Puback:
		if len(body) == 2 {
			d.puback(binary.BigEndian.Uint16(body))
		}
	case wire.Publish:
		if d.o.Received != nil && len(body) >= 2 {
			if n := 2 + int(body[0])<<8 + int(body[1]); n <= len(body) {
				d.o.Received(string(body[2:n]))
			}
		}
	}
}

// puback settles a flight. One that nothing waits for is ignored: it is of a packet that
// was sent twice.
func (d *Device) puback(id uint16) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, f := range d.flights {
		if f.id != id {
			continue
		}
		d.flights = append(d.flights[:i], d.flights[i+1:]...)
		d.calm = true
		d.acked.Add(1)
		d.note(d.o.Acked, f.n)
		select {
		case d.acks <- struct{}{}:
		default:
		}
		return
	}
}

// inFlight is how many messages wait for their PUBACK.
func (d *Device) inFlight() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.flights)
}

// publish writes message n.
func (d *Device) publish(n int) error {
	topic, payload := d.o.Message(n)
	d.mu.Lock()
	d.id = d.id%65535 + 1
	f := flight{n, d.id, topic, payload}
	d.flights = append(d.flights, f)
	l := d.link
	d.mu.Unlock()
	d.sent.Add(1)
	d.note(d.o.Sent, n)
	return l.write(f.packet(0))
}

// Run publishes until the messages are all acknowledged, or ctx has ended and they are,
// or Drain has passed. The device must be connected, unless it reconnects.
func (d *Device) Run(ctx context.Context) error {
	// hard ends the device; ctx only its publishing.
	hard, give := context.WithCancelCause(context.WithoutCancel(ctx))
	defer give(nil)
	var drain *time.Timer
	var once sync.Mutex
	stop := context.AfterFunc(ctx, func() {
		once.Lock()
		defer once.Unlock()
		drain = time.AfterFunc(d.o.Drain, func() { give(ErrNoAnswer) })
	})
	defer func() {
		stop()
		once.Lock()
		defer once.Unlock()
		if drain != nil {
			drain.Stop()
		}
	}()
	r := &run{d: d, due: time.NewTimer(d.o.Delay), at: time.Now().Add(d.o.Delay)}
	defer r.due.Stop()
	for pause := minBackoff; ; {
		if d.Connected() {
			err := r.serve(ctx, hard)
			if err == nil {
				return nil
			}
			err = errors.Join(context.Cause(hard), d.drop(err))
			if !d.o.Reconnect || hard.Err() != nil {
				return fmt.Errorf("publish as device %q, message %d: %w", d.o.Connect.ClientID, r.next, err)
			}
			if d.wasCalm() {
				pause = minBackoff
			}
		}
		if ctx.Err() != nil && d.inFlight() == 0 {
			return nil
		}
		select {
		case <-hard.Done():
			return fmt.Errorf("publish as device %q: %d messages have no PUBACK: %w", d.o.Connect.ClientID, d.inFlight(), ErrNoAnswer)
		case <-time.After(pause/2 + rand.N(pause)): // between attempts
		}
		pause = min(2*pause, maxBackoff)
		if err := d.Connect(hard); err != nil {
			d.refused.Add(1)
			if !d.o.Reconnect {
				return err
			}
		}
	}
}

func (d *Device) wasCalm() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calm
}

// drop takes leave of a connection that failed and returns why it did.
func (d *Device) drop(err error) error {
	d.mu.Lock()
	l := d.link
	d.mu.Unlock()
	d.up.Store(false)
	if why := l.end(); why != nil {
		err = why
	}
	if d.o.Lost != nil {
		d.o.Lost(err)
	}
	return err
}

// run is where a device is in its messages.
type run struct {
	d    *Device
	next int // message to be published
	due  *time.Timer
	at   time.Time // when it fires
}

// serve publishes over one connection. nil: there is nothing left to do.
func (r *run) serve(ctx, hard context.Context) error {
	d := r.d
	var ping <-chan time.Time
	if d.o.Connect.KeepAlive > 0 {
		ticker := time.NewTicker(d.o.Connect.KeepAlive / 2)
		defer ticker.Stop()
		ping = ticker.C
	}
	d.mu.Lock()
	l := d.link
	d.mu.Unlock()
	for {
		inFlight := d.inFlight()
		over := ctx.Err() != nil || d.o.Count > 0 && r.next == d.o.Count
		if over && inFlight == 0 {
			return nil
		}
		due, ended := r.due.C, ctx.Done()
		if over {
			due, ended = nil, nil
		} else if d.o.Every == 0 && inFlight == d.o.Window {
			due = nil
		}
		var err error
		select {
		case <-due:
			if inFlight < d.o.Window {
				err = d.publish(r.next)
				r.next++
			}
			r.rearm()
		case <-d.acks:
		case <-ended:
		case <-ping:
			err = l.write([]byte{wire.Pingreq, 0})
		case <-l.done:
			return l.err
		case <-hard.Done():
			return context.Cause(hard)
		}
		if err != nil {
			return err
		}
	}
}

// rearm sets when the next message is due. What was missed is not made up for.
func (r *run) rearm() {
	r.at = r.at.Add(r.d.o.Every)
	if now := time.Now(); r.at.Before(now) {
		r.at = now
	}
	r.due.Reset(time.Until(r.at))
}

// Disconnect sends a DISCONNECT, on which the broker closes the connection.
func (d *Device) Disconnect() {
	d.mu.Lock()
	l := d.link
	d.mu.Unlock()
	if l == nil {
		return
	}
	_ = l.write([]byte{wire.Disconnect, 0}) // a connection that has ended needs none
	d.up.Store(false)
	// To close it here would reset it where a packet of the broker's is unread, and the
	// broker would take the device for dead.
	select {
	case <-l.done:
	case <-time.After(goodbye):
	}
	_ = l.end()
}

// Kill closes the connection without a DISCONNECT, as a device that loses its power.
func (d *Device) Kill() {
	d.mu.Lock()
	l := d.link
	d.mu.Unlock()
	if l != nil {
		d.up.Store(false)
		_ = l.end()
	}
}
