package demo

import (
	"fmt"
	"strings"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/verdict"
)

// tally contains the counts of a fleet. All count messages, except for the last two.
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

// account contains all counts. They come from three independent parties: the devices, the bridge and
// nats-server.
type account struct {
	Fleet   tally
	Visits  uint64 // messages of the user's mosquitto_pub, counted by the broker
	Bridge  bridge.Counts
	Streams []streamCount
	// Written is nil without a database.
	Written *written
	// Quarantine is the name of the stream with refused messages.
	Quarantine string
	Provoked   []verdict.Reason
	// BrokerDropped is the number of messages that the broker dropped.
	BrokerDropped int64
	// Errors are the errors that occurred during the demo.
	Errors []error
}

// dropped returns the number of messages that were intentionally neither stored nor quarantined.
func dropped(c *bridge.Counts) uint64 {
	return c.QuarantineSkipped + c.RetainedSkipped + c.QoS0Dropped
}

// delivered returns the number of messages from the broker. Received does not include retained
// copies.
func delivered(c *bridge.Counts) uint64 { return c.Received + c.RetainedSkipped }

func (a *account) messagesIn(quarantine bool) (n uint64) {
	for _, s := range a.Streams {
		if (s.Stream == a.Quarantine) == quarantine {
			n += s.Messages
		}
	}
	return n
}

// poison returns the number of messages that ingest quarantined: the bridge stored them, but no table
// accepts them. Only the user's mosquitto_pub can send such messages.
func (a *account) poison() uint64 {
	if a.Written == nil {
		return 0
	}
	return a.Written.Poison
}

// check is one equation of the account.
type check struct {
	OK      bool
	Claim   string // the equation in words
	Figures string // the figures of both sides
}

func equal(claim, nameA string, a uint64, nameB string, b uint64) check {
	return check{OK: a == b, Claim: claim, Figures: fmt.Sprintf("%s %d, %s %d", nameA, a, nameB, b)}
}

// checks returns the equations that must be true once nothing is in flight.
func (a *account) checks() []check {
	c := &a.Bridge
	all := []check{
		equal("every publish was acknowledged to its device", "sent", a.Fleet.Sent, "acknowledged", a.Fleet.Acked),
		equal("the bridge received every acknowledged message once",
			"acknowledged", a.Fleet.Acked+a.Visits, "received", delivered(c)),
		equal("received = stored + quarantined + dropped",
			"received", delivered(c), "accounted for", c.Stored+c.QuarantinedTotal()+dropped(c)),
		equal("nothing is in flight", "expected", 0, "in flight", uint64(c.InFlight)),
	}
	if c.Duplicates == 0 {
		all = append(all,
			equal("the streams contain the messages that the bridge stored", "stored", c.Stored, "in the streams", a.messagesIn(false)),
			equal("QUARANTINE contains the quarantined messages", "quarantined", c.QuarantinedTotal()+a.poison(), "in the streams", a.messagesIn(true)),
		)
	} else {
		// If a PubAck is lost and the message is sent again, it is counted as stored twice.
		all = append(all, equal("the streams contain the messages that the bridge stored and quarantined",
			"stored", c.Stored+c.QuarantinedTotal()+a.poison()-c.Duplicates, "in the streams", a.messagesIn(false)+a.messagesIn(true)))
	}
	if w := a.Written; w != nil {
		all = append(all,
			equal("ingest has processed all messages of the streams", "in the streams", a.messagesIn(false), "stored or quarantined by ingest", w.Acknowledged+w.Poison),
			equal("the database contains each telemetry message once", "in the streams", a.Streams[0].Messages-a.poison(), "rows", w.Telemetry))
	}
	all = append(all, check{
		OK: c.Stored >= a.Fleet.HonestAcked, Claim: "no message of a well-behaved device was refused",
		Figures: fmt.Sprintf("sent %d, stored %d", a.Fleet.HonestAcked, c.Stored),
	}, a.everyReason())
	if a.BrokerDropped > 0 {
		all = append(all, check{Claim: "the demo's broker dropped no messages", Figures: fmt.Sprintf("dropped %d", a.BrokerDropped)})
	}
	for _, err := range a.Errors {
		all = append(all, check{Claim: "no error occurred during the demo", Figures: err.Error()})
	}
	return all
}

// everyReason checks that the quarantine contains messages for every provoked reason.
func (a *account) everyReason() check {
	var missing []string
	for _, r := range a.Provoked {
		if a.Bridge.Quarantined[r] == 0 {
			missing = append(missing, "no "+r.String())
		}
	}
	return check{
		OK: missing == nil, Claim: "the quarantine contains messages for every provoked reason",
		Figures: strings.Join(missing, ", "),
	}
}
