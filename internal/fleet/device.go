package fleet

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mqtt-nats-bridge/internal/sleep"
	"mqtt-nats-bridge/internal/wire"
)

// Bounds of the back-off before a reconnect. It doubles until a PUBACK arrives, and half of it is
// random.
const (
	minBackoff = 200 * time.Millisecond
	maxBackoff = 2 * time.Second
)

// closeTimeout bounds the wait for the broker to close a connection.
const closeTimeout = time.Second

// Options configures a device. Address and Connect.ClientID are required, and Message for Run.
type Options struct {
	Address string      // the broker's host:port
	TLS     *tls.Config // nil: plain TCP
	Connect wire.Connect
	// Window is the maximum number of messages in flight; 0: 1.
	Window int
	// Every is the interval between messages; 0: as fast as the window allows. A message that is
	// due while the window is full or the connection is down is skipped, so that a device does not
	// catch up in a burst.
	Every time.Duration
	// Delay is the time before the first message. It spreads the messages of several devices.
	Delay time.Duration
	// Count is the number of messages; 0: until the context ends.
	Count int
	// Message returns the n-th message, from 0.
	Message func(n int) (topic string, payload []byte)
	// Reconnect lets the device reconnect when its connection ends, and resend unacknowledged
	// messages. Without it, the end of a connection is an error.
	Reconnect bool
	// Drain bounds the wait for outstanding PUBACKs after the context has ended; 0: 10 s.
	Drain time.Duration
	// The hooks may be nil. Sent is called before the n-th message is written, including each
	// resend. Acked is called for its PUBACK. Received is called for each PUBLISH from the broker,
	// which the device never acknowledges. Lost is called when an accepted connection has ended.
	Sent     func(n int)
	Acked    func(n int)
	Received func(topic string)
	Lost     func(error)
}

// Device is one simulated device.
type Device struct {
	o     Options
	acks  chan struct{} // signals a PUBACK; capacity 1
	sent  atomic.Uint64
	acked atomic.Uint64
	up    atomic.Bool
	links atomic.Uint64
	// refused counts attempts to reconnect that failed.
	refused atomic.Uint64

	link atomic.Pointer[link] // nil before the first connection

	mu        sync.Mutex
	pending   []pendingPublish // oldest first
	id        uint16           // the latest packet id
	gotPuback bool             // over the current connection
}

// pendingPublish is a PUBLISH that is not acknowledged yet.
type pendingPublish struct {
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

// ClientID returns the device's client id.
func (d *Device) ClientID() string { return d.o.Connect.ClientID }

// Sent returns the number of published messages, without resends.
func (d *Device) Sent() uint64 { return d.sent.Load() }

// Acked returns the number of acknowledged messages.
func (d *Device) Acked() uint64 { return d.acked.Load() }

// Connections returns the number of connections that the broker has accepted.
func (d *Device) Connections() uint64 { return d.links.Load() }

// Refused returns the number of failed attempts to reconnect.
func (d *Device) Refused() uint64 { return d.refused.Load() }

// Connected reports whether the device has a connection.
func (d *Device) Connected() bool { return d.up.Load() }

// SessionPresent returns the session-present flag of the latest CONNACK.
func (d *Device) SessionPresent() bool {
	l := d.link.Load()
	return l != nil && l.present
}

// Connect connects and resends unacknowledged messages.
func (d *Device) Connect(ctx context.Context) error {
	l, err := open(ctx, &d.o, d.read)
	if err != nil {
		return fmt.Errorf("connect device %q: %w", d.o.Connect.ClientID, err)
	}
	d.links.Add(1)
	d.link.Store(l)
	d.up.Store(true)
	d.mu.Lock()
	d.gotPuback = false
	resend := slices.Clone(d.pending)
	d.mu.Unlock()
	for _, p := range resend {
		d.call(d.o.Sent, p.n)
		if err := l.write(p.packet(wire.Dup)); err != nil {
			break // Run detects the end of the connection
		}
	}
	return nil
}

func (p *pendingPublish) packet(flags byte) []byte {
	return wire.AppendPublish(nil, wire.QoS1|flags, p.topic, p.id, p.payload)
}

func (d *Device) call(hook func(int), n int) {
	if hook != nil {
		hook(n)
	}
}

// read handles a packet from the broker.
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

// puback settles a pending publish. It ignores a PUBACK without a pending publish, which acknowledges
// a resent packet a second time.
func (d *Device) puback(id uint16) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.IndexFunc(d.pending, func(p pendingPublish) bool { return p.id == id })
	if i < 0 {
		return
	}
	n := d.pending[i].n
	d.pending = slices.Delete(d.pending, i, i+1)
	d.gotPuback = true
	d.acked.Add(1)
	d.call(d.o.Acked, n)
	select {
	case d.acks <- struct{}{}:
	default:
	}
}

// inFlight returns the number of messages that wait for their PUBACK.
func (d *Device) inFlight() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.pending)
}

// publish writes message n.
func (d *Device) publish(n int) error {
	topic, payload := d.o.Message(n)
	d.mu.Lock()
	d.id = d.id%65535 + 1
	p := pendingPublish{n, d.id, topic, payload}
	d.pending = append(d.pending, p)
	d.mu.Unlock()
	d.sent.Add(1)
	d.call(d.o.Sent, n)
	return d.link.Load().write(p.packet(0))
}

// Run publishes Count messages, or until ctx ends. It then waits until all messages are acknowledged,
// after the end of ctx at most for Drain. The device must be connected, unless Reconnect is set.
func (d *Device) Run(ctx context.Context) error {
	// ctx ends the publishing; aborted also ends the wait for PUBACKs.
	aborted, abort := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abort(nil)
	defer context.AfterFunc(ctx, func() {
		if sleep.For(aborted, d.o.Drain) {
			abort(ErrNoAnswer)
		}
	})()
	r := &run{d: d, due: time.NewTimer(d.o.Delay), at: time.Now().Add(d.o.Delay)}
	defer r.due.Stop()
	for pause := minBackoff; ; {
		if d.Connected() {
			err := r.serve(ctx, aborted)
			if err == nil {
				return nil
			}
			err = errors.Join(context.Cause(aborted), d.disconnected(err))
			if !d.o.Reconnect || aborted.Err() != nil {
				return fmt.Errorf("publish as device %q, message %d: %w", d.o.Connect.ClientID, r.next, err)
			}
			d.mu.Lock()
			if d.gotPuback {
				pause = minBackoff
			}
			d.mu.Unlock()
		}
		if ctx.Err() != nil && d.inFlight() == 0 {
			return nil
		}
		select {
		case <-aborted.Done():
			return fmt.Errorf("publish as device %q: %d messages have no PUBACK: %w", d.o.Connect.ClientID, d.inFlight(), ErrNoAnswer)
		case <-time.After(pause/2 + rand.N(pause)): // between attempts
		}
		pause = min(2*pause, maxBackoff)
		if err := d.Connect(aborted); err != nil {
			d.refused.Add(1)
			if !d.o.Reconnect {
				return err
			}
		}
	}
}

// disconnected closes a failed connection and returns the reason of its failure.
func (d *Device) disconnected(err error) error {
	d.up.Store(false)
	if cause := d.link.Load().end(); cause != nil {
		err = cause
	}
	if d.o.Lost != nil {
		d.o.Lost(err)
	}
	return err
}

// run is the progress of a device's Run.
type run struct {
	d    *Device
	next int // the next message to publish
	due  *time.Timer
	at   time.Time // when due fires
}

// serve publishes over one connection. It returns nil when all messages are published and
// acknowledged.
func (r *run) serve(ctx, aborted context.Context) error {
	d := r.d
	var ping <-chan time.Time
	if d.o.Connect.KeepAlive > 0 {
		ticker := time.NewTicker(d.o.Connect.KeepAlive / 2)
		defer ticker.Stop()
		ping = ticker.C
	}
	l := d.link.Load()
	for {
		inFlight := d.inFlight()
		finished := ctx.Err() != nil || d.o.Count > 0 && r.next == d.o.Count
		if finished && inFlight == 0 {
			return nil
		}
		due, ended := r.due.C, ctx.Done()
		if finished {
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
		case <-aborted.Done():
			return context.Cause(aborted)
		}
		if err != nil {
			return err
		}
	}
}

// rearm sets the timer for the next message. Missed messages are skipped.
func (r *run) rearm() {
	r.at = r.at.Add(r.d.o.Every)
	if now := time.Now(); r.at.Before(now) {
		r.at = now
	}
	r.due.Reset(time.Until(r.at))
}

// Disconnect sends a DISCONNECT, after which the broker closes the connection.
func (d *Device) Disconnect() {
	l := d.link.Load()
	if l == nil {
		return
	}
	_ = l.write([]byte{wire.Disconnect, 0}) // an error means that the connection has already ended
	d.up.Store(false)
	// If the device closed the connection while a packet from the broker is unread, TCP would reset
	// it, and the broker would treat that as a lost connection.
	select {
	case <-l.done:
	case <-time.After(closeTimeout):
	}
	_ = l.end()
}

// Kill closes the connection without a DISCONNECT, like a device that loses its power.
func (d *Device) Kill() {
	l := d.link.Load()
	if l != nil {
		d.up.Store(false)
		_ = l.end()
	}
}
