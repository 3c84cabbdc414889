package lease

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/jetstream/kv"
)

func TestBrokerProbe(t *testing.T) {
	t.Parallel()
	t.Run("replica without broker gives up its share", testReplicaWithoutBrokerGivesUpItsShare)
	t.Run("rereading bucket forgets no replica", testRereadingBucketForgetsNoReplica)
	t.Run("last replica gets all even without broker", testLastReplicaGetsAllEvenWithoutBroker)
	t.Run("new replica without broker gets nothing", testNewReplicaWithoutBrokerGetsNothing)
	t.Run("flapping link moves nothing back and forth", testFlappingLinkMovesNothingBackAndForth)
	t.Run("stop ends a probe", testStopEndsAProbe)
	t.Run("new replica gets share while another is cut", testNewReplicaGetsShareWhileAnotherIsCut)
	t.Run("lanes that never connect reduce the share", testLanesThatNeverConnectReduceTheShare)
	t.Run("replica retries if no other has the broker", testReplicaRetriesIfNoOtherHasTheBroker)
	t.Run("failed assignments are reset on connect", testFailedAssignmentsAreResetOnConnect)
}

func testReplicaWithoutBrokerGivesUpItsShare(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b, c := w.join(), w.join(), w.join()
		w.everything(a, b, c)
		time.Sleep(time.Minute)
		w.part(b)
		took := w.everything(a, c)
		require.Greater(t, took, disconnectedAfter-time.Second, "not after a short interruption")
		require.Less(t, took, disconnectedAfter+2*ttl/renewDivisor)
		require.Zero(t, w.broker.takeovers, "it released them itself")
		require.Empty(t, b.lanes.held())
		time.Sleep(ttl)
		status := b.Status()
		require.Zero(t, status.Lost)
		require.False(t, status.Replica.Connected)
		require.ErrorIs(t, status.Unreached, errCut)
		time.Sleep(10 * time.Minute)
		require.Empty(t, b.lanes.held(), "none is assigned to it during the outage")

		moved := w.broker.opens()
		w.rejoin(b)
		took = w.everything(a, b, c)
		require.Greater(t, took, trustedAfter, "it must stay connected for a while")
		require.Less(t, took, trustedAfter+2*ttl)
		total := 0
		for p, n := range w.broker.opens() {
			total += n - moved[p]
		}
		require.Equal(t, 5, total, "it acquires its share and nothing else moves")
		require.NoError(t, b.Status().Unreached)
	})
}

// Each reconnect to NATS rereads the bucket.
func testRereadingBucketForgetsNoReplica(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.join(), w.join()
		w.everything(a, b)
		readAgain := func(during time.Duration) {
			for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(ttl + 5*time.Second) {
				a.link.end <- kv.ErrReadAgain
				b.link.end <- kv.ErrReadAgain
			}
		}
		readAgain(time.Minute)
		w.part(b)
		readAgain(disconnectedAfter + 4*ttl)
		require.Len(t, a.lanes.held(), len(sixteen))
	})
}

func TestBrokerOutage(t *testing.T) {
	t.Parallel()
	for _, outage := range []time.Duration{5 * time.Second, 20 * time.Second, 5 * time.Minute} {
		t.Run(outage.String(), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				all := []*replica{w.join(), w.join(), w.join()}
				w.everything(all...)
				time.Sleep(10 * time.Minute)
				for i, r := range all { // noticed one after the other
					w.part(r)
					time.Sleep(time.Duration(i) * time.Second)
				}
				time.Sleep(outage)
				for _, r := range all { // reconnected at intervals, as the sessions' back-off does
					w.rejoin(r)
					time.Sleep(16 * time.Second)
				}
				time.Sleep(10 * time.Minute)
				w.everything(all...)
				for p, n := range w.broker.opens() {
					require.Equal(t, 1, n, "partition %s", p)
				}
			})
		})
	}
}

func testLastReplicaGetsAllEvenWithoutBroker(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.pairWithOneCut()
		w.kill(a)
		time.Sleep(15 * time.Second)
		require.Len(t, b.lanes.held(), 16, "a replica must own them when the broker returns")
		w.rejoin(b)
		require.Less(t, w.everything(b), time.Second)
		a.link.setCut(false)
	})
}

func testNewReplicaWithoutBrokerGetsNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.alone()
		b := w.joinWithoutBroker()
		time.Sleep(10 * time.Minute)
		require.Empty(t, b.lanes.held())
		require.Len(t, a.lanes.held(), 16)
		w.rejoin(b)
		require.Less(t, w.everything(a, b), 2*ttl, "it never had a lease, so trustedAfter does not apply")
	})
}

func testFlappingLinkMovesNothingBackAndForth(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.pairWithOneCut()
		for range 20 {
			w.rejoin(b)
			time.Sleep(trustedAfter - 2*ttl)
			w.part(b)
			time.Sleep(2 * ttl)
		}
		require.Len(t, a.lanes.held(), 16)
		for p, n := range w.broker.opens() {
			require.LessOrEqual(t, n, 2, "partition %s", p)
		}
	})
}

func testStopEndsAProbe(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.alone()
		b := w.joinWithoutBroker()
		b.lanes.hangs.Store(true)
		time.Sleep(3 * ttl)
		begun := time.Now()
		w.stop(b)
		require.Less(t, time.Since(begun), time.Second)
	})
}

func TestPartitionReturn(t *testing.T) {
	t.Parallel()
	for name, event := range map[string]func(w *world, a, b *replica){
		"the broker restarts": func(w *world, a, _ *replica) {
			w.part(a)
			time.Sleep(2 * ttl / renewDivisor)
			w.rejoin(a)
		},
		"the store is unreachable for a moment": func(_ *world, a, b *replica) {
			for _, r := range []*replica{a, b} {
				r.link.setCut(true)
			}
			time.Sleep(ttl)
			for _, r := range []*replica{a, b} {
				r.link.setCut(false)
			}
		},
		"one of them loses the store for a moment": func(_ *world, a, _ *replica) {
			a.link.setCut(true)
			time.Sleep(ttl / 2)
			a.link.setCut(false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				a, b := w.pairWithOneCut()
				time.Sleep(10 * time.Minute)
				moved := w.broker.opens()
				event(w, a, b)
				for range 120 {
					time.Sleep(time.Second)
					require.Empty(t, b.lanes.held())
				}
				require.Len(t, a.lanes.held(), 16)
				require.Equal(t, moved, w.broker.opens())
				w.rejoin(b)
				w.everything(a, b)
			})
		})
	}
}

func testNewReplicaGetsShareWhileAnotherIsCut(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, _ := w.pairWithOneCut()
		time.Sleep(time.Minute)
		c := w.join()
		require.Less(t, w.everything(a, c), ttl)
	})
}

// For example, a file that the lanes need is missing, or a rule of the broker blocks their client ids.
func testLanesThatNeverConnectReduceTheShare(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.pairWithProbeOnly()
		time.Sleep(4 * time.Hour)
		for p, n := range w.broker.opens() {
			require.LessOrEqual(t, n, 1+2*14, "partition %s", p)
		}
		require.Error(t, b.Status().Unreached)
		b.lanes.probeOnly.Store(false)
		time.Sleep(maxPause)
		require.Less(t, w.everything(a, b), 2*time.Minute)
		require.NoError(t, b.Status().Unreached)
	})
}

// No other replica can do better, and the cause may have been fixed.
func testReplicaRetriesIfNoOtherHasTheBroker(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.pairWithProbeOnly()
		time.Sleep(4 * time.Hour)
		b.lanes.probeOnly.Store(false)
		w.part(a)
		require.Less(t, w.everything(b), 3*time.Minute)
		w.rejoin(a)
		w.everything(a, b)
	})
}

func testFailedAssignmentsAreResetOnConnect(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.pairWithProbeOnly()
		time.Sleep(2 * time.Hour)
		for len(b.lanes.held()) == 0 {
			time.Sleep(time.Second)
		}
		w.everything(a) // b has just been excluded again, for half an hour
		b.lanes.probeOnly.Store(false)
		w.kill(a)
		w.everything(b)
		c := w.join()
		w.everything(b, c)
		time.Sleep(time.Minute)
		w.part(b)
		w.everything(c)
		w.rejoin(b)
		require.Less(t, w.everything(b, c), 2*time.Minute)
	})
}
