package simulate

import (
	"testing"

	"github.com/stretchr/testify/require"
)

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
		"single messages resent":                   {resendSingly(), []promise{deviceOrder, storedTwice}},
		"a fence on OnConnect":                     {fenceOnReconnect(), []promise{deviceOrder}},
		"a hash of the content for the message id": {contentAsID(), []promise{falseDuplicate}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			for seed := uint64(1); seed <= 2000; seed++ {
				if v := run(t, generate(seed), c.broken, home, nil); v != nil {
					require.Contains(t, c.finds, v.promise, "seed %d: %v", seed, v)
					t.Logf("seed %d: %v", seed, v)
					return
				}
			}
			t.Fatal("nothing is found")
		})
	}
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
