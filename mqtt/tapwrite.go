package mqtt

import (
	"fmt"
	"net"
	"time"
)

// Write is called by paho.
func (t *tap) Write(p []byte) (int, error) {
	t.writeMu.Lock()
	defer t.writeMu.Unlock()
	if t.dead.Load() {
		return 0, net.ErrClosed
	}
	// Pending PUBACKs go first, above all before DISCONNECT.
	if err := t.flushLocked(); err != nil {
		return 0, err
	}
	if len(p) > 0 && p[0]>>4 == typePingreq {
		t.expect(0)
	}
	n, err := t.writeLocked(p)
	if len(p) > 0 {
		switch p[0] >> 4 {
		case typePingreq:
			t.pause.ping()
		case typeDisconnect:
			t.die() // nothing may follow it [MQTT-3.14.4-2]
			t.left.Store(err == nil)
		}
	}
	return n, err
}

// Ack implements [bridge.Conn].
func (t *tap) Ack(packetID uint16) {
	t.ackMu.Lock()
	defer t.ackMu.Unlock()
	if !t.dead.Load() {
		t.acks = appendPuback(t.acks, packetID)
	}
}

// Flush implements [bridge.Conn].
func (t *tap) Flush() {
	t.writeMu.Lock()
	defer t.writeMu.Unlock()
	if !t.dead.Load() {
		t.flushLocked() // an error closes the socket: the reader meets it
	}
}

// flushLocked is called with writeMu held.
func (t *tap) flushLocked() error {
	t.ackMu.Lock()
	acks := t.acks
	if len(acks) > 0 {
		t.acks = t.written[:0]
	}
	t.ackMu.Unlock()
	if len(acks) == 0 {
		return nil
	}
	_, err := t.writeLocked(acks)
	t.written = acks
	return err
}

// writeLocked writes and, on an error, closes the socket: after a partial packet the broker could
// not parse what follows.
func (t *tap) writeLocked(p []byte) (int, error) {
	t.Conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	n, err := t.Conn.Write(p)
	if err != nil {
		t.die()
		t.closeSocket(fmt.Errorf("write to the broker: %w", err))
	}
	return n, err
}
