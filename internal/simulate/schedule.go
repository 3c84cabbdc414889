package simulate

import (
	"fmt"
	"strings"
)

// op is the kind of an event. An event that is not possible at the moment, such as a PUBACK if
// there is none, does nothing, so that any schedule can be run.
type op int

const (
	// These are events of the broker.
	publish  op = iota // a device publishes: a device, b payload and kind
	send               // the broker sends up to a+1 messages
	retry              // resends one of those in flight (b odd: all), with DUP set
	takeAcks           // the broker handles up to a+1 PUBACKs
	cut                // the connection ends: a packets and b PUBACKs still arrive
	connect            // the bridge reconnects
	lose               // the broker restarts without its sessions
	skip               // messages dropped by a full queue use up packet ids; the next id is one of the latest (a)
	save               // the broker writes a snapshot of its sessions
	restore            // the broker is rolled back to the snapshot; a odd: it answers a ping before it sends anything new
	flood              // retained copies use up packet ids, except a

	// These are events of the bridge.
	read      // reads up to a+1 packets
	flush     // writes PUBACKs
	notice    // detects that the connection to the broker has ended
	tick      // Lane.Tick, once per second
	kill      // kill -9: a messages and b PUBACKs still arrive; b odd, inside Publish: the journal entry is torn
	stop      // SIGTERM
	elsewhere // the process is suspended while another one has the session for a+b messages, of which a stay in flight
	keep      // saves a copy of the journal
	setback   // kill -9, and the copy is restored; a odd: by a power cut
	freeze    // the process is suspended (a: duration), its broker connection ends; b odd: it then reads answers before its timers fire
	start     // a odd: NATS is unreachable at first

	// These are events of NATS.
	store      // the server processes a+1 messages of connection b
	commit     // a+1 of them are replicated (replicated streams)
	answer     // a+1 answers arrive; b: delay of the first one, in places
	dropAnswer // one answer is lost
	fault      // the streams begin to refuse (a: how); ragged: only the messages in the mask b
	heal       // the streams accept again; a odd: a new leader answers before it accepts
	leader     // a new leader, which has a of the unreplicated messages; b odd: no answers until it is elected, otherwise refusals
	natsCut    // the connection ends: a messages and b answers still arrive
	natsNotice // the client detects that
	natsDial   // the client reconnects
	natsCall   // the client's handler runs
	natsClose  // the client closes the connection permanently
	failWrite  // the next write fails; a odd: but arrives
	purge      // the streams delete all messages

	wait    // time passes (a: duration)
	ripen   // time passes until the duplicate window of a message that the bridge or the broker does not know to be stored is about to close, or has just closed (a)
	between // the next event happens inside the one after it

	ops // number of ops
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

// setup contains the settings of a run.
type setup struct {
	Attested   bool // topics contain the broker's message id
	Memory     bool // the journal is lost with the process
	Replicated bool // messages are stored first and replicated later
	Ragged     bool // single messages are refused: order is not guaranteed
	Limited    bool // devices have a rate
	Bounded    bool // the quarantine of a device is bounded
	NoStore    bool // rejected messages are counted, not stored
	Retained   bool // retained copies are forwarded
	Window     int  // of the broker
	InFlight   int  // of the publisher, in messages
	Bytes      int  // of the publisher, in flight, in bytes
	Devices    int
	FirstID    int  // first packet id of the broker
	Pending    int  // maximum number of waiting QoS 0 messages
	Anew       bool // the broker numbers packets from 1 on each connection
	PassDup    bool // the broker forwards the DUP flag of the device
	Strict     bool // one message per device in flight: order is guaranteed even if ragged
	BrokerSkew int  // seconds by which the broker's clock is ahead of the bridge's
	ServerSkew int  // seconds by which the NATS servers' clocks are ahead
}

// schedule is a whole run.
type schedule struct {
	setup  setup
	events []event
}

// String returns the schedule in the format that parse reads.
func (s schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "setup %s\n", strings.Trim(fmt.Sprintf("%v", s.setup), "{}"))
	for _, e := range s.events {
		fmt.Fprintln(&b, e)
	}
	return b.String()
}

// parse reads the format of String. Text after a # is a comment.
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
			return s, fmt.Errorf("line %d: unknown event %q", n+1, name)
		}
		s.events = append(s.events, e)
	}
	if s.setup.Window <= 0 || s.setup.Devices <= 0 {
		return s, fmt.Errorf("the schedule has no set-up")
	}
	return s, nil
}
