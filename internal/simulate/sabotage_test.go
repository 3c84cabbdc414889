package simulate

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/simulate/jetstream"
)

// losses are the promises that break if a new message is taken for an earlier one.
var losses = []promise{ackedUnstored, lost, falseDuplicate, strayAck}

// A simulation that finds no error may be unable to find any. Each case breaks the bridge on
// purpose, and the simulation has to detect it.
func TestSabotage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		broken sabotage
		finds  []promise
		from   uint64 // the first seed to try; known to detect the defect
	}{
		"the stored bit ignored": {sabotage{forgetsStored: true}, []promise{storedTwice}, 126},
		"a PUBACK on publish":    {ackOnPublish(), []promise{ackedUnstored}, 1},
		// A copy still in flight after the duplicate window is stored a second time.
		"single messages resent": {resendSingly(), []promise{deviceOrder, storedTwice}, 14},
		"a fence on OnConnect":   {sabotage{unnumbered: true}, []promise{deviceOrder}, 666},
		// Redelivery. TestRedeliveryRunBeforeLatest in package bridge covers a run that ends at
		// the latest message.
		"a run of any connection":                  {headerWord(journalLow, 1), losses, 159},
		"PUBACKs not noted":                        {headerWord(journalAcked, 0), losses, 210},
		"a stale journal trusted":                  {sabotage{trustsStaleJournal: true}, losses, 1347},
		"one epoch for all journals":               {sabotage{sameEpoch: true}, []promise{falseDuplicate}, 12},
		"a broker never asked":                     {sabotage{noFence: true}, losses, 159},
		"a broker's answer before its time":        {sabotage{hastyFence: true}, []promise{storedTwice}, 385},
		"a stop of the process unnoticed":          {sabotage{missesSuspension: true}, losses, 643},
		"a hash of the content for the message id": {contentAsID(), []promise{falseDuplicate}, 1},
		// Look-ups.
		"streams never asked":                            {sabotage{neverAsks: true}, []promise{storedTwice}, 14},
		"an answer ignored":                              {misread(func(body string) string { return forMessage(body, jetstream.NoMessage) }), []promise{storedTwice}, 14},
		"an error taken for not stored":                  {misread(func(body string) string { return forError(body, jetstream.NoMessage) }), []promise{storedTwice}, 540},
		"a replica that lags asked":                      {sabotage{follower: true}, []promise{storedTwice}, 14},
		"the bridge's clock for the server's":            {misread(func(body string) string { return forTime(body, `{"created":"2026-01-01T00:00:00Z"}`) }), []promise{storedTwice}, 94},
		"no margin for the clocks of servers":            {fromLater(10 * time.Second), []promise{storedTwice}, 811},
		"no margin for the broker's clock":               {attempted(func(ns int64) int64 { return ns + int64(time.Minute) }), []promise{storedTwice}, 33},
		"no margin before the window's end":              {sabotage{window: func(*process) time.Duration { return jetstream.DuplicateWindow + 25*time.Second }}, []promise{storedTwice}, 14},
		"the latest attempt for the first":               {latestAttempt(), []promise{storedTwice}, 14},
		"the time of the delivery for the first attempt": {attempted(func(int64) int64 { return time.Now().UnixNano() }), []promise{storedTwice}, 14},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			for seed := c.from; seed < c.from+2000; seed++ {
				v := run(t, generate(seed), c.broken, home, nil)
				if v != nil && &c.finds[0] == &losses[0] && !slices.Contains(losses, v.promise) {
					continue // a lesser violation, not yet the expected loss
				}
				if v != nil {
					require.Contains(t, c.finds, v.promise, "seed %d: %v", seed, v)
					t.Logf("seed %d: %v", seed, v)
					return
				}
			}
			t.Fatal("nothing is found")
		})
	}
}

// forMessage, forError and forTime replace the answers of one kind.
func forMessage(body, other string) string { return forKind(body, `{"message"`, other) }
func forTime(body, other string) string    { return forKind(body, `{"ts"`, other) }

func forError(body, other string) string {
	if body == "" {
		return other // "no responders"
	}
	return forKind(body, `{"error"`, other)
}

func forKind(body, kind, other string) string {
	if strings.HasPrefix(body, kind) {
		return other
	}
	return ""
}

// Shows that order depends on the assumption in doc.go. A server that refuses some messages in
// flight but accepts later ones stores the later ones first. No message is lost or stored
// twice.
func TestUnnoticedFault(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	found := 0
	for seed := uint64(1); seed <= 400; seed++ {
		if v := run(t, generate(seed), sabotage{earlyHeal: true}, home, nil); v != nil {
			require.Equal(t, deviceOrder, v.promise, "seed %d: %v", seed, v)
			found++
		}
	}
	require.Positive(t, found)
}
