package drill

import (
	"strings"
	"sync"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/reconcile"
)

// intake is what was read from the streams beside the ledger.
type intake struct {
	mu      sync.Mutex
	reasons map[string]int // quarantined messages of the fleet
	quarant map[string]int // and by device
	lastAt  time.Time      // when the latest message was read
	// The messages of devices that misbehave.
	impostor       map[string]int // by what became of them: stored, or the reason
	impostorVictim int            // stored under the victim's subject
	wills          map[string]int // copies by device
}

func newIntake() intake {
	return intake{reasons: map[string]int{}, quarant: map[string]int{}, impostor: map[string]int{}, wills: map[string]int{}}
}

// take is called with each message of a stream; those of others are passed over.
func (d *drill) take(stream string, m natsjs.Msg, meta *natsjs.MsgMetadata) {
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
		d.takeFleet(mark, reason, reconcile.Copy{
			Subject: m.Subject(), ID: m.Headers().Get(natsjs.MsgIDHeader), At: meta.Timestamp, Place: meta.Sequence.Stream,
		}, m.Headers().Get(bridge.HeaderCN))
	case roleImpostor:
		d.takeImpostor(m.Subject(), reason)
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

// takeFleet enters a message into the ledger. cn is what the broker attested, empty where
// it attests nothing.
func (d *drill) takeFleet(m mark, reason string, c reconcile.Copy, cn string) {
	i, known := d.index[m.Device]
	switch {
	case !known:
		d.ledger.Foreign(-1, m.Seq, c)
	case reason != "":
		d.in.mu.Lock()
		d.in.reasons[reason]++
		d.in.quarant[m.Device]++
		d.in.mu.Unlock()
		d.ledger.Quarantined(i, m.Seq, c)
	case c.Subject != d.subjects[i] || cn != "" && cn != m.Device:
		d.ledger.Foreign(i, m.Seq, c)
	default:
		d.ledger.Stored(i, m.Seq, c)
	}
}

func (d *drill) takeImpostor(subject, reason string) {
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
