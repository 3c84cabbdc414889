package demo

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/verdict"
)

// balanced returns an account in which every equation is true.
func balanced() *account {
	a := &account{
		Fleet:      tally{Sent: 100, Acked: 100, HonestAcked: 70, Connected: 5, Devices: 5},
		Visits:     2,
		Streams:    []streamCount{{"TELEMETRY", 60}, {"SHADOW", 10}, {"COMMANDS", 2}, {"QUARANTINE", 20}},
		Quarantine: "QUARANTINE",
		Provoked:   []verdict.Reason{verdict.CNMismatch, verdict.RateLimited},
	}
	c := &a.Bridge
	c.Received, c.Stored, c.QuarantineSkipped = 101, 72, 9
	c.RetainedSkipped = 1
	c.Rejected[verdict.CNMismatch], c.Quarantined[verdict.CNMismatch] = 5, 5
	c.Rejected[verdict.RateLimited], c.Quarantined[verdict.RateLimited] = 24, 15
	return a
}

func TestAccount(t *testing.T) {
	t.Parallel()
	t.Run("balanced account passes", testBalancedAccountPasses)
	t.Run("duplicate PubAck is no missing message", testDuplicatePubAckIsNoMissingMessage)
}

func testBalancedAccountPasses(t *testing.T) {
	t.Parallel()
	require.NoError(t, conclude(balanced().checks()))
}

func testDuplicatePubAckIsNoMissingMessage(t *testing.T) {
	t.Parallel()
	a := balanced()
	a.Bridge.Duplicates = 1
	require.Error(t, conclude(a.checks()))
	a.Streams[0].Messages--
	require.NoError(t, conclude(a.checks()))
}

func TestAccountErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*account)
		says   string
	}{
		"a publish without a PUBACK": {
			func(a *account) { a.Fleet.Sent++ },
			"every publish was acknowledged to its device (sent 101, acknowledged 100)",
		},
		"a PUBACK for what never came": {
			func(a *account) { a.Fleet.Sent++; a.Fleet.Acked++ },
			"the bridge received every acknowledged message once (acknowledged 103, received 102)",
		},
		"a visitor's message that never came": {
			func(a *account) { a.Visits++ },
			"(acknowledged 103, received 102)",
		},
		"a message received twice": {
			func(a *account) { a.Bridge.Received++; a.Bridge.Stored++; a.Streams[0].Messages++ },
			"(acknowledged 102, received 103)",
		},
		"a message dropped silently": {
			func(a *account) { a.Bridge.Stored--; a.Streams[0].Messages-- },
			"received = stored + quarantined + dropped (received 102, accounted for 101)",
		},
		"a message in flight": {
			func(a *account) { a.Bridge.InFlight = 3 },
			"nothing is in flight (expected 0, in flight 3)",
		},
		"a stored message that no stream holds": {
			func(a *account) { a.Streams[1].Messages-- },
			"the streams contain the messages that the bridge stored (stored 72, in the streams 71)",
		},
		"a message too many in quarantine": {
			func(a *account) { a.Streams[3].Messages++ },
			"QUARANTINE contains the quarantined messages (quarantined 20, in the streams 21)",
		},
		"an honest message refused": {
			func(a *account) { a.Fleet.HonestAcked = 73 },
			"no message of a well-behaved device was refused (sent 73, stored 72)",
		},
		"an offence not seen": {
			func(a *account) { a.Provoked = append(a.Provoked, verdict.BadTopic, verdict.CNMissing) },
			"the quarantine contains messages for every provoked reason (no bad_topic, no cn_missing)",
		},
		"a message lost in the broker": {
			func(a *account) { a.BrokerDropped = 1 },
			"the demo's broker dropped no messages (dropped 1)",
		},
		"a fault": {
			func(a *account) { a.addError(errors.New("a device fell off")) },
			"no error occurred during the demo (a device fell off)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := balanced()
			c.change(a)
			err := conclude(a.checks())
			require.ErrorIs(t, err, ErrUnaccounted)
			require.ErrorContains(t, err, c.says)
			require.Contains(t, summary(a, a.checks(), 0), "\n  FAILED  ")
		})
	}
}
