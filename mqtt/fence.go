package mqtt

import "mqtt-nats-bridge/bridge"

var _ bridge.Fencer = (*tap)(nil)

// pingRequest is a PINGREQ (§3.12).
var pingRequest = []byte{typePingreq << 4, 0}

// Fence implements [bridge.Fencer]. A broker processes packets in order, so its answer to a PINGREQ
// means that it has processed the PUBACKs before it. If a broker does not, it may redeliver a
// message that is then stored again.
func (t *tap) Fence(mark uint64) {
	if !t.fencing.CompareAndSwap(false, true) {
		return
	}
	// A broker that does not read would block the caller. The goroutine ends with the write, which
	// ends at the latest with the socket.
	go func() {
		t.writeMu.Lock()
		defer t.writeMu.Unlock()
		if !t.dead.Load() && t.flushLocked() == nil {
			t.expect(mark)
			t.writeLocked(pingRequest)
		}
	}()
}

// expect records that a PINGREQ is written. writeMu is held, so the order is that of the answers.
func (t *tap) expect(mark uint64) {
	t.pingMu.Lock()
	defer t.pingMu.Unlock()
	t.pings = append(t.pings, mark)
}

// answered handles a PINGRESP and reports whether it is for paho.
func (t *tap) answered() (forPaho bool) {
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
	t.fencing.Store(false)
	if c, ok := t.opts.receiver.(bridge.Confirmer); ok {
		c.Confirmed(t, mark)
	}
	return false
}
