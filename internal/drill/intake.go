package drill

import (
	"strings"
	"sync"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/reconcile"
)

// intake contains counts of the messages read from the streams, in addition to the ledger.
type intake struct {
	mu          sync.Mutex
	reasons     map[string]int // quarantined messages of the fleet, by reason
	quarantined map[string]int // quarantined messages of the fleet, by device
	lastAt      time.Time      // when the latest message was read
	// Messages of misbehaving devices.
	impostor       map[string]int // messages of the impostor: by reason, or stored elsewhere
	impostorVictim int            // messages of the impostor stored under the victim's subject
	wills          map[string]int // stored copies of wills, by device
}

func newIntake() intake {
	return intake{reasons: map[string]int{}, quarantined: map[string]int{}, impostor: map[string]int{}, wills: map[string]int{}}
}

// receive handles a message of a stream. It ignores messages that are not of this drill.
func (d *drill) receive(stream string, m natsjs.Msg, meta *natsjs.MsgMetadata) {
	mark, ok := readMark(d.run, m.Data())
	if !ok {
		return
	}
	reason := ""
	if stream == d.o.Quarantine || strings.HasPrefix(m.Subject(), bridge.QuarantineSubject+".") {
		reason = m.Headers().Get(bridge.HeaderReason)
		if reason == "" {
			reason = "unknown"
		}
	}
	d.in.mu.Lock()
	d.in.lastAt = d.o.now()
	d.in.mu.Unlock()
	switch mark.Role {
	case roleFleet:
		d.receiveFleet(mark, reason, reconcile.Copy{
			Subject: m.Subject(), ID: m.Headers().Get(natsjs.MsgIDHeader), At: meta.Timestamp, Place: meta.Sequence.Stream,
		}, m.Headers().Get(bridge.HeaderCN))
	case roleImpostor:
		d.receiveImpostor(m.Subject(), reason)
	case roleWill:
		d.in.mu.Lock()
		if m.Subject() == d.willSubject {
			d.in.wills[mark.Device]++
		}
		d.in.mu.Unlock()
	}
	select {
	case d.arrived <- struct{}{}:
	default:
	}
}

// receiveFleet enters a message into the ledger. cn is the attested CN, or empty if the broker does
// not attest.
func (d *drill) receiveFleet(m mark, reason string, c reconcile.Copy, cn string) {
	i, known := d.index[m.Device]
	switch {
	case !known:
		d.ledger.Foreign(-1, m.Seq, c)
	case reason != "":
		d.in.mu.Lock()
		d.in.reasons[reason]++
		d.in.quarantined[m.Device]++
		d.in.mu.Unlock()
		d.ledger.Quarantined(i, m.Seq, c)
	case c.Subject != d.subjects[i] || cn != "" && cn != m.Device:
		d.ledger.Foreign(i, m.Seq, c)
	default:
		d.ledger.Stored(i, m.Seq, c)
	}
}

func (d *drill) receiveImpostor(subject, reason string) {
	d.in.mu.Lock()
	defer d.in.mu.Unlock()
	switch {
	case reason != "":
		d.in.impostor[reason]++
	case subject == d.subjects[0]:
		d.in.impostorVictim++
	default:
		d.in.impostor["stored elsewhere"]++
	}
}
