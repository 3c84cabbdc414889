package drill

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"mqtt-nats-bridge/internal/fleet"
	"mqtt-nats-bridge/internal/reconcile"
)

// mark identifies a message of a drill. It is part of the payload.
type mark struct {
	Drill  string `json:"drill"`
	Role   string `json:"role"`
	Device string `json:"device"`
	Seq    int    `json:"seq"`
}

// The roles of devices.
const (
	roleFleet    = "fleet"
	roleImpostor = "impostor"
	roleWill     = "will"
)

// payload returns a JSON object of at least size bytes. ingest and envelopes accept JSON objects.
func (m mark) payload(size int) []byte {
	p, err := json.Marshal(m)
	if err != nil {
		panic(err) // impossible: strings and a number
	}
	if pad := size - len(p) - len(`,"pad":""`); pad > 0 {
		p = fmt.Appendf(p[:len(p)-1], `,"pad":"%s"}`, bytes.Repeat([]byte("x"), pad))
	}
	return p
}

// readMark reads the mark of a stored message, which is the payload or an envelope. It searches for run
// first, because most messages are not of this drill.
func readMark(run string, data []byte) (m mark, ok bool) {
	if !bytes.Contains(data, []byte(run)) {
		return m, false
	}
	var p struct {
		mark
		Payload json.RawMessage `json:"payload"`
	}
	if json.Unmarshal(data, &p) != nil {
		return m, false
	}
	m = p.mark
	if m.Drill == "" && p.Payload != nil && json.Unmarshal(p.Payload, &m) != nil {
		return m, false
	}
	return m, m.Drill == run
}

// newFleet creates the devices whose messages are reconciled.
func (d *drill) newFleet() {
	every := time.Duration(float64(len(d.crew.fleet)) / d.o.Rate * float64(time.Second))
	for i, id := range d.crew.fleet {
		o := d.o.device(id, fmt.Sprintf("drill-%s-%d", d.run, i+1))
		o.Every, o.Delay = every, every*time.Duration(i)/time.Duration(len(d.crew.fleet))
		d.fleet.Devices = append(d.fleet.Devices, fleet.New(d.accounted(o, i, id)))
	}
}

// accounted adds hooks to o that record the messages of device i in the ledger.
func (d *drill) accounted(o fleet.Options, i int, id Identity) fleet.Options {
	topic := d.o.topic(id)
	o.Reconnect, o.Drain = true, d.o.Settle
	o.Message = func(n int) (string, []byte) {
		return topic, mark{d.run, roleFleet, id.CN, n}.payload(d.o.Size)
	}
	o.Sent = func(n int) { d.ledger.Sent(i, n) }
	o.Acked = func(n int) { d.ledger.Acked(i, n, d.o.now()) }
	o.Lost = func(err error) { d.connectionLost(i, err) }
	return o
}

func (d *drill) newLedger() {
	accounted := d.crew.fleet
	if d.o.Burst > 0 {
		accounted = append(accounted[:len(accounted):len(accounted)], d.crew.burst)
	}
	d.ledger = reconcile.New(len(accounted))
	d.index = map[string]int{}
	for i, id := range accounted {
		d.names = append(d.names, id.CN)
		d.index[id.CN] = i
		subject, _ := d.o.subject(d.o.topic(id)) // Check has validated the topic
		d.subjects = append(d.subjects, subject)
	}
}
