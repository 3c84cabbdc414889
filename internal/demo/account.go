package demo

import (
	"fmt"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/verdict"
)

// tally is what a fleet has done; messages, except for the last two.
type tally struct {
	Sent, Acked uint64
	HonestAcked uint64 // of the devices that break no rule
	Connected   int
	Devices     int
}

// streamCount is the number of messages a stream has stored since it was created.
type streamCount struct {
	Stream   string
	Messages uint64
}

// account is everything that was counted, by three parties that do not ask each
// other: the devices, the bridge, nats-server.
type account struct {
	Fleet   tally
	Visits  uint64 // the visitor's messages, counted by the broker
	Bridge  bridge.Counts
	Streams []streamCount
	// Written is nil without a database.
	Written *written
	// Quarantine is the name of the stream with refused messages.
	Quarantine string
	Provoked   []verdict.Reason
	// BrokerDropped counts messages that the broker gave up.
	BrokerDropped int64
	// Faults are errors met on the way.
	Faults []error
}

// countedOut is what was neither stored nor quarantined, on purpose.
func countedOut(c *bridge.Counts) uint64 {
	return c.QuarantineSkipped + c.RetainedSkipped + c.QoS0Dropped
}

// delivered is what came from the broker: Received leaves retained copies out.
func delivered(c *bridge.Counts) uint64 { return c.Received + c.RetainedSkipped }

func (a *account) messagesIn(quarantine bool) (n uint64) {
	for _, h := range a.Streams {
		if (h.Stream == a.Quarantine) == quarantine {
			n += h.Messages
		}
	}
	return n
}

// poison is what ingest quarantined: messages that the bridge stored, and that no
// table can take. The visitor alone sends such.
func (a *account) poison() uint64 {
	if a.Written == nil {
		return 0
	}
	return a.Written.Poison
}

// check is one equation of the account.
type check struct {
	OK   bool
	What string // the equation
	Why  string // both sides' figures
}

func equal(what, nameA string, a uint64, nameB string, b uint64) check {
	return check{OK: a == b, What: what, Why: fmt.Sprintf("%s %d, %s %d", nameA, a, nameB, b)}
}

// checks returns the equations that must be true once nothing is in flight.
func (a *account) checks() []check {
	c := &a.Bridge
	all := []check{
		equal("every publish was acknowledged to its device", "sent", a.Fleet.Sent, "acknowledged", a.Fleet.Acked),
		equal("the bridge received what was acknowledged, once each",
			"acknowledged", a.Fleet.Acked+a.Visits, "received", delivered(c)),
		equal("received = stored + quarantined + dropped",
			"received", delivered(c), "accounted for", c.Stored+c.QuarantinedTotal()+countedOut(c)),
		equal("nothing is in flight", "expected", 0, "in flight", uint64(c.InFlight)),
	}
	if c.Duplicates == 0 {
		all = append(all,
			equal("the streams contain what the bridge stored", "stored", c.Stored, "in the streams", a.messagesIn(false)),
			equal("QUARANTINE contains what the bridge quarantined", "quarantined", c.QuarantinedTotal()+a.poison(), "in the streams", a.messagesIn(true)),
		)
	} else {
		// A PubAck that was lost and came again is counted as stored twice.
		all = append(all, equal("the streams contain what the bridge stored and quarantined",
			"stored", c.Stored+c.QuarantinedTotal()+a.poison()-c.Duplicates, "in the streams", a.messagesIn(false)+a.messagesIn(true)))
	}
	if w := a.Written; w != nil {
		all = append(all,
			equal("ingest is done with what the streams contain", "in the streams", a.messagesIn(false), "stored or quarantined by ingest", w.Acknowledged+w.Poison),
			equal("the database has each message of the first stream once", "in the streams", a.Streams[0].Messages-a.poison(), "rows", w.Telemetry))
	}
	honest := check{What: "no message of an honest device was refused", OK: c.Stored >= a.Fleet.HonestAcked}
	honest.Why = fmt.Sprintf("sent %d, stored %d", a.Fleet.HonestAcked, c.Stored)
	all = append(all, honest, a.everyReason())
	if a.BrokerDropped > 0 {
		all = append(all, check{What: "the demo's broker dropped nothing", Why: fmt.Sprintf("dropped %d", a.BrokerDropped)})
	}
	for _, err := range a.Faults {
		all = append(all, check{What: "nothing failed on the way", Why: err.Error()})
	}
	return all
}

// everyReason checks that each offence was seen and its evidence kept.
func (a *account) everyReason() check {
	c := check{OK: true, What: "each offence is in quarantine under its reason"}
	for _, r := range a.Provoked {
		if a.Bridge.Quarantined[r] == 0 {
			c.OK = false
			if c.Why != "" {
				c.Why += ", "
			}
			c.Why += "no " + r.String()
		}
	}
	return c
}
