package leafnode

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
)

func TestNode(t *testing.T) {
	t.Parallel()
	t.Run("hub stream problem keeps its start time", testHubStreamProblemKeepsItsStartTime)
	t.Run("acks of unreachable hub are kept", testAcksOfUnreachableHubAreKept)
}

// The hub's streams are checked every 30 s. A problem dates from its first detection.
func testHubStreamProblemKeepsItsStartTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &Node{health: newConditions(zerolog.Nop(), nil)}
		began := time.Now()
		n.health.streams.Set(errors.New("they do not source from here"))
		time.Sleep(unsourcedFor)
		n.health.streams.Set(errors.New("they do not source from here"))
		require.Equal(t, began, n.Problems()[0].Since)
		n.health.streams.Set(nil)
		require.Empty(t, n.Problems())
		n.health.streams.Set(errors.New("they do not source from here"))
		require.Equal(t, time.Now(), n.Problems()[0].Since)
	})
}

// A hub can lose its latest minutes in a power cut. The local store must keep the messages that the
// hub had confirmed before, until the hub is reachable and confirms them again.
func testAcksOfUnreachableHubAreKept(t *testing.T) {
	t.Parallel()
	n := &Node{config: config.Leaf{Keep: 5 * time.Minute}}
	began := time.Now()
	report := func(after time.Duration, upTo uint64) map[string]uint64 {
		n.view.hub = map[string]uint64{"S": upTo}
		n.hubAcks = append(n.hubAcks, hubAcks{began.Add(after), n.view.hub})
		return n.safeToPurge()
	}
	require.Empty(t, report(0, 1000))
	require.Empty(t, report(time.Minute, 2000))
	require.Equal(t, map[string]uint64{"S": 1000}, report(5*time.Minute, 2500))
	// The hub is unreachable for an hour, then returns without its latest minutes.
	require.Equal(t, map[string]uint64{"S": 1000}, n.safeToPurge())
	require.Equal(t, map[string]uint64{"S": 1800}, report(65*time.Minute, 1800))
	require.Equal(t, map[string]uint64{"S": 1800}, report(66*time.Minute, 3000))
	require.Equal(t, map[string]uint64{"S": 3000}, report(71*time.Minute, 3500))
}
