package simulate

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// losses are what comes of a new message that is taken for an earlier one.
var losses = []promise{ackedUnstored, lost, falseDuplicate, strayAck}

// A simulation that finds nothing may be blind. Here the bridge is broken on
// purpose, and it has to see.
func TestTheSimulationCatches(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		broken sabotage
		finds  []promise
	}{
		"the stored bit ignored": {withoutStoredBit(), []promise{storedTwice}},
		"a PUBACK on publish":    {ackOnPublish(), []promise{ackedUnstored}},
		// A copy that is still on its way when the streams have forgotten the id is
		// stored a second time.
		"single messages resent": {resendSingly(), []promise{deviceOrder, storedTwice}},
		"a fence on OnConnect":   {fenceOnReconnect(), []promise{deviceOrder}},
		// Redelivery. That a run goes up to the latest: bridge, TestARunThatEndsBeforeTheLatestIsNew.
		"a run of any connection":                  {headerWord(journalLow, 1), losses},
		"PUBACKs not noted":                        {headerWord(journalAcked, 0), losses},
		"a stale journal trusted":                  {sabotage{trusting: true}, losses},
		"a broker never asked":                     {sabotage{noFence: true}, losses},
		"a broker's answer before its time":        {sabotage{hastyFence: true}, []promise{storedTwice}},
		"a stop of the process unnoticed":          {sabotage{restless: true}, losses},
		"a hash of the content for the message id": {contentAsID(), []promise{falseDuplicate}},
		// Look-ups.
		"streams never asked":                            {neverAsks(), []promise{storedTwice}},
		"an answer ignored":                              {misread(func(body string) string { return forMessage(body, noMessage) }), []promise{storedTwice}},
		"an error taken for not stored":                  {misread(func(body string) string { return forError(body, noMessage) }), []promise{storedTwice}},
		"a replica that lags asked":                      {sabotage{follower: true}, []promise{storedTwice}},
		"the bridge's clock for the server's":            {misread(func(body string) string { return forTime(body, `{"created":"2026-01-01T00:00:00Z"}`) }), []promise{storedTwice}},
		"no margin for the clocks of servers":            {fromLater(10 * time.Second), []promise{storedTwice}},
		"no margin for the broker's clock":               {attempted(func(ns int64) int64 { return ns + int64(time.Minute) }), []promise{storedTwice}},
		"no margin before the window's end":              {window(func(*process) time.Duration { return duplicateWindow + 25*time.Second }), []promise{storedTwice}},
		"the latest attempt for the first":               {latestAttempt(), []promise{storedTwice}},
		"the time of the delivery for the first attempt": {attempted(func(int64) int64 { return time.Now().UnixNano() }), []promise{storedTwice}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			for seed := uint64(1); seed <= 2000; seed++ {
				v := run(t, generate(seed), c.broken, home, nil)
				if v != nil && &c.finds[0] == &losses[0] && !slices.Contains(losses, v.promise) {
					continue // something less than a loss comes of it too
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

// forMessage, forError and forTime put another answer in the place of one kind.
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

// What the order takes for granted (doc.go), it does need: a server that refuses
// some messages on their way and takes the next ones stores these first. Nothing
// is lost by it, and nothing is stored twice.
func TestAFaultTooShortToBeNoticedCostsOrderAndNothingElse(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	found := 0
	for seed := uint64(1); seed <= 400; seed++ {
		if v := run(t, generate(seed), sabotage{impatient: true}, home, nil); v != nil {
			require.Equal(t, deviceOrder, v.promise, "seed %d: %v", seed, v)
			found++
		}
	}
	require.Positive(t, found)
}
