package simulate

import (
	"fmt"
	"strings"
)

// op is what can happen. An event whose time has not come (a PUBACK where there
// is none) does nothing, so that any schedule can be run.
type op int

const (
	// The broker.
	publish  op = iota // a device publishes: a device, b payload and kind
	send               // the broker sends up to a+1 messages
	retry              // sends one (b odd: all) of those in flight again, DUP set
	takeAcks           // takes up to a+1 PUBACKs
	cut                // the connection dies: a packets and b PUBACKs still arrive
	connect            // the bridge connects again
	lose               // the broker restarts without its sessions
	skip               // packet ids are used up for messages that a full queue drops; the next is one of the latest (a)
	save               // the broker writes a snapshot of its sessions
	restore            // it loses its state and comes back with the snapshot; a odd: and answers a ping before anything new
	flood              // retained copies until packet ids have come round but for a

	// The bridge.
	read      // up to a+1 packets
	flush     // writes PUBACKs
	notice    // sees that the connection to the broker is gone
	tick      // Lane.Tick, once per second
	kill      // kill -9: a messages and b PUBACKs still arrive; inside Publish with b odd the journal's entry is torn
	stop      // SIGTERM
	elsewhere // the process stands still while another one has the session for a+b messages, of which a are left in flight
	keep      // a copy of the journal is kept
	setback   // kill -9, and the copy is put back; a odd: by a power cut
	freeze    // the process stands still (a: how long), its broker connection ends; b odd: on waking it reads answers before its timers run
	start     // a odd: NATS is unreachable at first

	// NATS.
	store      // a+1 messages are taken from connection b
	commit     // a+1 of them are safe (replicated streams)
	answer     // a+1 answers arrive; b: how far the first one has fallen behind
	dropAnswer // one is lost
	fault      // the streams refuse (a: how) from now on; ragged: those of the mask b
	heal       // and take again; a odd: a new leader answers before it takes
	leader     // a new leader, who has a of what was not safe; b odd: until then no answers, else refusals
	natsCut    // the connection dies: a messages and b answers still arrive
	natsNotice // the client sees that
	natsDial   // and connects again
	natsCall   // its handler runs
	natsClose  // and gives up for good
	failWrite  // the next write fails; a odd: and arrives all the same
	purge      // the streams delete all messages

	wait    // time passes (a: how long)
	ripen   // time passes until the streams are about to forget, or have just forgotten (a), a message that the bridge or the broker does not know to be stored
	between // the next event happens inside the one after it

	ops // how many there are
)

var opNames = [ops]string{
	"publish", "send", "retry", "takeAcks", "cut", "connect", "lose", "skip", "save", "restore", "flood",
	"read", "flush", "notice", "tick", "kill", "stop", "elsewhere", "keep", "setback", "freeze", "start",
	"store", "commit", "answer", "dropAnswer", "fault", "heal", "leader", "natsCut", "natsNotice",
	"natsDial", "natsCall", "natsClose", "failWrite", "purge",
	"wait", "ripen", "between",
}

// event is one step of a schedule.
type event struct {
	op   op
	a, b int
}

func (e event) String() string { return fmt.Sprintf("%s %d %d", opNames[e.op], e.a, e.b) }

// setup is what does not change during a run.
type setup struct {
	Attested   bool // topics carry the broker's id
	Memory     bool // the journal is lost with the process
	Replicated bool // stored and safe are two things
	Ragged     bool // single messages are refused: order is not promised
	Limited    bool // devices have a rate
	Bounded    bool // so has their quarantine
	NoStore    bool // rejected messages are only counted
	Retained   bool // retained copies are forwarded
	Window     int  // of the broker
	InFlight   int  // of the publisher, messages
	Bytes      int  // of the publisher, in flight
	Devices    int
	FirstID    int  // of the broker's packets
	Pending    int  // bound of the QoS 0 messages that wait
	Anew       bool // the broker numbers packets from 1 on each connection
	PassDup    bool // and passes on the DUP flag of the device
	Strict     bool // one message of a device at a time: order is promised, ragged or not
	BrokerSkew int  // by how many seconds the broker's clock is ahead of the bridge's
	ServerSkew int  // and the NATS servers' clocks
}

// schedule is a whole run.
type schedule struct {
	setup  setup
	events []event
}

// String is the form that parse reads.
func (s schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "setup %s\n", strings.Trim(fmt.Sprintf("%v", s.setup), "{}"))
	for _, e := range s.events {
		fmt.Fprintln(&b, e)
	}
	return b.String()
}

// parse reads what String writes; lines that begin with # are comments.
func parse(text string) (schedule, error) {
	var s schedule
	for n, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if rest, ok := strings.CutPrefix(line, "setup "); ok {
			c := &s.setup
			if _, err := fmt.Sscan(rest, &c.Attested, &c.Memory, &c.Replicated, &c.Ragged, &c.Limited, &c.Bounded,
				&c.NoStore, &c.Retained, &c.Window, &c.InFlight, &c.Bytes, &c.Devices, &c.FirstID, &c.Pending, &c.Anew, &c.PassDup, &c.Strict, &c.BrokerSkew, &c.ServerSkew); err != nil {
				return s, fmt.Errorf("line %d: read set-up: %w", n+1, err)
			}
			continue
		}
		var name string
		var e event
		if _, err := fmt.Sscan(line, &name, &e.a, &e.b); err != nil {
			return s, fmt.Errorf("line %d: read event: %w", n+1, err)
		}
		for e.op = 0; e.op < ops && opNames[e.op] != name; e.op++ {
		}
		if e.op == ops {
			return s, fmt.Errorf("line %d: no event is called %q", n+1, name)
		}
		s.events = append(s.events, e)
	}
	if s.setup.Window <= 0 || s.setup.Devices <= 0 {
		return s, fmt.Errorf("the schedule has no set-up")
	}
	return s, nil
}
