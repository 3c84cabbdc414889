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
	if t.writesClosed.Load() {
		return 0, net.ErrClosed
	}
	// Pending PUBACKs go first, in particular before DISCONNECT.
	if err := t.flushLocked(); err != nil {
		return 0, err
	}
	if len(p) > 0 && p[0]>>4 == typePingreq {
		t.pushPing(0)
	}
	n, err := t.writeLocked(p)
	if len(p) > 0 {
		switch p[0] >> 4 {
		case typePingreq:
			t.pause.ping()
		case typeDisconnect:
			t.closeWrites() // nothing may follow DISCONNECT [MQTT-3.14.4-2]
			t.disconnectSent.Store(err == nil)
		}
	}
	return n, err
}

// Ack implements [bridge.Conn].
func (t *tap) Ack(packetID uint16) {
	t.ackMu.Lock()
	defer t.ackMu.Unlock()
	if !t.writesClosed.Load() {
		t.acks = appendPuback(t.acks, packetID)
	}
}

// Flush implements [bridge.Conn].
func (t *tap) Flush() {
	t.writeMu.Lock()
	defer t.writeMu.Unlock()
	if !t.writesClosed.Load() {
		t.flushLocked() // on an error the socket is closed, which the reader reports
	}
}

// flushLocked writes the pending PUBACKs. The caller holds writeMu.
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

// writeLocked writes p. On an error it closes the socket, because the broker could not parse what
// follows a partial packet.
func (t *tap) writeLocked(p []byte) (int, error) {
	t.Conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	n, err := t.Conn.Write(p)
	if err != nil {
		t.closeWrites()
		t.closeSocket(fmt.Errorf("write to the broker: %w", err))
	}
	return n, err
}
