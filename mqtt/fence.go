package mqtt

import "mqtt-nats-bridge/bridge"

var _ bridge.Fencer = (*tap)(nil)

// pingRequest is a PINGREQ (§3.12).
var pingRequest = []byte{typePingreq << 4, 0}

// Fence implements [bridge.Fencer]. A broker processes packets in order, so its answer to a PINGREQ
// proves that it has processed the PUBACKs before it. If a broker violates that order, it may
// redeliver a message, which is then stored twice.
func (t *tap) Fence(mark uint64) {
	if !t.fencePending.CompareAndSwap(false, true) {
		return
	}
	// A broker that does not read would block the caller. The goroutine ends with the write, at the
	// latest when the socket is closed.
	go func() {
		t.writeMu.Lock()
		defer t.writeMu.Unlock()
		if !t.writesClosed.Load() && t.flushLocked() == nil {
			t.pushPing(mark)
			t.writeLocked(pingRequest)
		}
	}()
}

// pushPing records a PINGREQ that is about to be written. The caller holds writeMu, so the order is
// that of the answers.
func (t *tap) pushPing(mark uint64) {
	t.pingMu.Lock()
	defer t.pingMu.Unlock()
	t.pings = append(t.pings, mark)
}

// popPing handles a PINGRESP and reports whether it is for paho.
func (t *tap) popPing() (forPaho bool) {
	t.pingMu.Lock()
	mark := uint64(0)
	if len(t.pings) > 0 {
		mark = t.pings[0]
		t.pings = t.pings[1:]
	}
	t.pingMu.Unlock()
	if mark == 0 {
		return true
	}
	t.fencePending.Store(false)
	if c, ok := t.opts.Receiver.(bridge.Confirmer); ok {
		c.Confirmed(t, mark)
	}
	return false
}
