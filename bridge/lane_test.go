package bridge

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/certificates"
	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/bridge/verdict"
)

func TestLaneAck(t *testing.T) {
	t.Parallel()
	t.Run("nothing is acked before it is stored", testNothingIsAckedBeforeItIsStored)
	t.Run("acks are sent in order of receipt", testAcksAreSentInOrderOfReceipt)
	t.Run("ack goes only to the delivering connection", testAckGoesOnlyToTheDeliveringConnection)
	t.Run("retransmission on same connection is acked once", testRetransmissionOnSameConnectionIsAckedOnce)
}

func testNothingIsAckedBeforeItIsStored(t *testing.T) {
	t.Parallel()
	s := play(t)
	s.deliver(1, telemetry, "a")
	s.SettleDone()
	require.Empty(t, s.conn.acked())
	s.stream.store(0)
	require.Equal(t, []uint16{1}, s.conn.acked())
}

func testAcksAreSentInOrderOfReceipt(t *testing.T) {
	t.Parallel()
	s := play(t)
	for id := range uint16(4) {
		s.deliver(id+1, telemetry, "same")
	}
	s.stream.store(2)
	s.stream.store(1)
	s.stream.store(3)
	require.Empty(t, s.conn.acked())
	s.stream.store(0)
	require.Equal(t, []uint16{1, 2, 3, 4}, s.conn.acked())
	require.Zero(t, s.conn.flushes)
	s.SettleDone()
	require.Equal(t, 1, s.conn.flushes)
}

func testAckGoesOnlyToTheDeliveringConnection(t *testing.T) {
	t.Parallel()
	s := play(t)
	s.deliver(1, telemetry, "a")
	first := s.conn
	second := s.connect(true)
	s.stream.store(0)
	require.Empty(t, second.acked(), "the second connection did not deliver it yet")
	require.Empty(t, first.acked())
	s.deliver(1, telemetry, "a", dup)
	require.Equal(t, []uint16{1}, second.acked())
	require.Len(t, s.stream.all(), 1)
}

func TestLaneRedelivery(t *testing.T) {
	t.Parallel()
	t.Run("waiting message is not published again", testWaitingMessageIsNotPublishedAgain)
	t.Run("stored message is acked in order", testStoredMessageIsAckedInOrder)
	t.Run("different content is a new message", testDifferentContentIsANewMessage)
	t.Run("unknown redelivery is stored", testUnknownRedeliveryIsStored)
	t.Run("first attempt of unknown is broker time", testFirstAttemptOfUnknownIsBrokerTime)
}

func testWaitingMessageIsNotPublishedAgain(t *testing.T) {
	t.Parallel()
	s := play(t)
	s.deliver(1, telemetry, "a")
	s.deliver(2, telemetry, "b")
	first := s.conn
	second := s.connect(true)
	s.deliver(1, telemetry, "a", dup)
	s.deliver(2, telemetry, "b", dup)
	s.deliver(3, telemetry, "c")
	require.Len(t, s.stream.all(), 3)
	for i := range 3 {
		s.stream.store(i)
	}
	require.Empty(t, first.acked())
	require.Equal(t, []uint16{1, 2, 3}, second.acked())
}

func testRetransmissionOnSameConnectionIsAckedOnce(t *testing.T) {
	t.Parallel()
	s := play(t)
	s.deliver(1, telemetry, "a")
	s.deliver(2, telemetry, "b")
	s.deliver(1, telemetry, "a", dup)
	s.stream.store(0)
	s.stream.store(1)
	require.Equal(t, []uint16{1, 2}, s.conn.acked())
}

// MQTT-4.6.0-2: PUBACKs go out in the order of receipt on a connection, also for messages that need
// nothing else.
func testStoredMessageIsAckedInOrder(t *testing.T) {
	t.Parallel()
	s := play(t)
	for id := range uint16(5) {
		s.deliver(id+1, telemetry, "same")
	}
	s.stream.store(0)
	s.stream.store(1) // 2 is acknowledged, and the PUBACK is lost
	s.connect(true)
	s.deliver(2, telemetry, "same", dup)
	s.deliver(3, telemetry, "same", dup)
	s.connect(true)
	for id := range uint16(4) {
		s.deliver(id+2, telemetry, "same", dup)
	}
	s.deliver(6, telemetry, "new")
	require.Len(t, s.stream.all(), 6)
	for i := 5; i >= 2; i-- {
		s.stream.store(i)
	}
	require.Equal(t, []uint16{2, 3, 4, 5, 6}, s.conn.acked())
	require.Equal(t, uint64(6), s.Counts().Redelivered)
}

func testDifferentContentIsANewMessage(t *testing.T) {
	t.Parallel()
	s := play(t)
	s.deliver(1, telemetry, "a")
	s.stream.store(0)
	s.deliver(1, telemetry, "b", dup)
	s.deliver(1, telemetry+"x", "b", dup)
	all := s.stream.all()
	require.Len(t, all, 3)
	require.NotEqual(t, all[0].id, all[1].id)
	require.NotEqual(t, all[1].id, all[2].id)
}

func testUnknownRedeliveryIsStored(t *testing.T) {
	t.Parallel()
	s := play(t)
	s.deliver(1, telemetry, "sent into a connection that died", dup)
	require.Len(t, s.stream.all(), 1)
	require.Empty(t, s.conn.acked())
}

// An earlier process may have sent the message to JetStream, at the earliest at the broker's time.
func testFirstAttemptOfUnknownIsBrokerTime(t *testing.T) {
	t.Parallel()
	s := play(t, attested(t))
	sent := noon - int64(time.Hour)
	s.deliver(1, vouched("0A", sent, "acme/dev-1", telemetry), "a", dup)
	s.deliver(2, vouched("0B", sent, "acme/dev-2", telemetry), "an impostor's", dup)
	s.deliver(3, vouched("0C", noon, "acme/dev-1", telemetry), "new")
	all := s.stream.all()
	require.Len(t, all, 3)
	require.Equal(t, []int64{sent, sent, 0}, []int64{all[0].first, all[1].first, all[2].first})
}

func TestLane(t *testing.T) {
	t.Parallel()
	t.Run("identical messages are all stored", testIdenticalMessagesAreAllStored)
	t.Run("QoS 0 is bounded and never acked", testQoS0IsBoundedAndNeverAcked)
	t.Run("message settles once", testMessageSettlesOnce)
	t.Run("idle channel closes when everything is settled", testIdleChannelClosesWhenEverythingIsSettled)
	t.Run("counts add up", testCountsAddUp)
	t.Run("counts add up while a message waits", testCountsAddUpWhileAMessageWaits)
	t.Run("full lane asks for a pause", testFullLaneAsksForAPause)
	t.Run("dropped QoS 0 does not fill the lane", testDroppedQoS0DoesNotFillTheLane)
	t.Run("stalled broker blocks no lock", testStalledBrokerBlocksNoLock)
}

func testIdenticalMessagesAreAllStored(t *testing.T) {
	t.Parallel()
	s := play(t)
	ids := map[string]bool{}
	const n = 70_000 // one full cycle of the packet ids
	for i := range n {
		s.deliver(uint16(i%65_535)+1, telemetry, "same")
		m := s.last()
		require.False(t, ids[m.id], "id %s twice", m.id)
		ids[m.id] = true
		s.Settle(&Result{Token: m.token})
		s.stream.messages = s.stream.messages[:0]
	}
	require.Len(t, s.conn.acked(), n)
}

// A broker that lost the session numbers its packets anew. A message from a dying connection is
// redelivered with DUP, a packet id of the old session, and possibly the same bytes.
func TestLaneLostSession(t *testing.T) {
	t.Parallel()
	for name, storedBefore := range map[string]bool{"stored before": true, "still waiting": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := play(t)
			s.deliver(1, telemetry, "same")
			if storedBefore {
				s.stream.store(0)
			}
			s.connect(false)
			s.connect(true)
			s.deliver(1, telemetry, "same", dup)
			all := s.stream.all()
			require.Len(t, all, 2, "the new session's message was taken for the old one's")
			require.NotEqual(t, all[0].id, all[1].id)
		})
	}
}

func TestLaneRetained(t *testing.T) {
	t.Parallel()
	t.Run("copies are skipped and acked in order", testCopiesAreSkippedAndAckedInOrder)
	t.Run("retransmitted copy gets one PUBACK", testRetransmittedCopyGetsOnePUBACK)
	t.Run("copies are forwarded on demand", testCopiesAreForwardedOnDemand)
}

func testCopiesAreSkippedAndAckedInOrder(t *testing.T) {
	t.Parallel()
	s := play(t)
	s.deliver(1, telemetry, "a")
	s.deliver(2, telemetry, "old", retained)
	s.deliver(0, telemetry, "older", retained, qos0)
	require.Len(t, s.stream.all(), 1)
	require.Empty(t, s.conn.acked())
	s.stream.store(0)
	require.Equal(t, []uint16{1, 2}, s.conn.acked())
	require.Equal(t, uint64(2), s.Counts().RetainedSkipped)
	require.Equal(t, uint64(1), s.Counts().Received)
}

func testRetransmittedCopyGetsOnePUBACK(t *testing.T) {
	t.Parallel()
	s := play(t)
	s.deliver(1, telemetry, "new")
	s.deliver(2, telemetry, "old", retained)
	s.deliver(2, telemetry, "old", retained, dup) // a broker that does not wait for PUBACKs
	s.stream.store(0)
	require.Equal(t, []uint16{1, 2}, s.conn.acked())
	require.Equal(t, uint64(1), s.Counts().RetainedSkipped)
}

func testCopiesAreForwardedOnDemand(t *testing.T) {
	t.Parallel()
	s := play(t, func(o *LaneOptions) { o.Rules.ForwardRetained = true })
	s.deliver(1, telemetry, "a", retained)
	require.Equal(t, map[string]string{HeaderRetained: "true"}, s.only().headers)
}

func testQoS0IsBoundedAndNeverAcked(t *testing.T) {
	t.Parallel()
	s := play(t, func(o *LaneOptions) { o.QoS0Pending = 3 })
	for range 5 {
		s.deliver(0, telemetry, "same", qos0)
	}
	s.deliver(1, telemetry, "q1")
	all := s.stream.all()
	require.Len(t, all, 4)
	require.NotEqual(t, all[0].id, all[1].id)
	require.Equal(t, uint64(2), s.Counts().QoS0Dropped)
	for i := range 4 {
		s.stream.store(i)
	}
	require.Equal(t, []uint16{1}, s.conn.acked())
	for range 4 {
		s.deliver(0, telemetry, "same", qos0)
	}
	require.Equal(t, uint64(3), s.Counts().QoS0Dropped, "settled messages make room")
}

func testMessageSettlesOnce(t *testing.T) {
	t.Parallel()
	s := play(t)
	s.deliver(1, telemetry, "a")
	s.deliver(2, telemetry, "b")
	for range 2 {
		s.stream.store(1)
		s.stream.store(0)
	}
	s.Settle(&Result{Token: 99})
	require.Equal(t, []uint16{1, 2}, s.conn.acked())
	require.Equal(t, uint64(2), s.Counts().Stored)
}

func testIdleChannelClosesWhenEverythingIsSettled(t *testing.T) {
	t.Parallel()
	s := play(t)
	requireClosed(t, s.Idle(), true)
	s.deliver(1, telemetry, "a")
	s.deliver(0, telemetry, "b", qos0)
	idle := s.Idle()
	s.stream.store(0)
	requireClosed(t, idle, false)
	s.stream.store(1)
	requireClosed(t, idle, true)
	requireClosed(t, s.Idle(), true)
}

func requireClosed(t *testing.T, c <-chan struct{}, want bool) {
	t.Helper()
	select {
	case <-c:
		require.True(t, want)
	default:
		require.False(t, want)
	}
}

func testCountsAddUp(t *testing.T) {
	t.Parallel()
	s := play(t, func(o *LaneOptions) {
		edit(o.Limits, func(l *limit.Limits) { l.Quarantine = limit.Rate{Rate: 1, Burst: 2} })
		o.QoS0Pending = 1
	})
	for id := range uint16(5) {
		s.deliver(id+1, telemetry, string(make([]byte, 2000)))
	}
	s.deliver(6, telemetry, "fine")
	s.deliver(7, telemetry, "refused")
	s.deliver(0, telemetry, "kept", qos0)
	s.deliver(0, telemetry, "dropped", qos0)
	s.tick(3 * time.Millisecond)
	s.stream.store(0)
	s.stream.store(1)
	s.Settle(&Result{Token: s.stream.all()[2].token, Duplicate: true})
	s.stream.refuse(3) // over the quarantine bound
	c := s.Counts()
	require.Equal(t, 1, c.InFlight)
	require.Equal(t, c.Received, c.Stored+c.QuarantinedTotal()+c.QuarantineSkipped+c.QoS0Dropped+uint64(c.InFlight))
	require.Equal(t, uint64(9), c.Received)
	require.Equal(t, uint64(5), c.Rejected[verdict.PayloadTooLarge])
	require.Equal(t, uint64(2), c.Quarantined[verdict.PayloadTooLarge])
	require.Equal(t, uint64(1), c.Rejected[verdict.Refused])
	require.Equal(t, uint64(4), c.QuarantineSkipped)
	require.Equal(t, uint64(1), c.Duplicates)
	require.Equal(t, uint64(1), c.AckLatency.Count)
	require.Equal(t, int64(3e6), c.AckLatency.Sum)
	require.True(t, c.Connected)
	require.Equal(t, []uint16{1, 2, 3, 4, 5, 6, 7}, s.conn.acked())
}

// While a message waits, later ones are dropped or already stored. They stay in the ring until
// their turn to be acknowledged, but are no longer in flight.
func testCountsAddUpWhileAMessageWaits(t *testing.T) {
	t.Parallel()
	s := play(t, func(o *LaneOptions) { o.Rules.Quarantine = false })
	add := func(inFlight int) {
		t.Helper()
		c := s.Counts()
		require.Equal(t, inFlight, c.InFlight)
		require.Equal(t, c.Received, c.Stored+c.QuarantinedTotal()+c.QuarantineSkipped+c.QoS0Dropped+uint64(c.InFlight))
	}
	s.deliver(1, telemetry, "waits")
	s.deliver(2, "elsewhere", "dropped")
	s.deliver(3, telemetry, "stored before")
	s.deliver(4, telemetry, "retained", retained)
	add(2)
	s.stream.store(1)
	add(1)
	s.connect(true)
	s.deliver(1, telemetry, "waits", dup)
	s.deliver(2, "elsewhere", "dropped", dup)
	s.deliver(3, telemetry, "stored before", dup)
	require.Empty(t, s.conn.acked())
	s.deliver(4, telemetry, "retained", retained, dup)
	add(1)
	s.stream.store(0)
	add(0)
	require.Equal(t, []uint16{1, 2, 3, 4}, s.conn.acked())
}

func TestLaneMissingOptions(t *testing.T) {
	t.Parallel()
	devices := limit.NewBudgets(limit.BudgetOptions{})
	rules, limits := &Rules{Topics: routes(t, telemetryPattern)}, noLimits()
	whole := LaneOptions{Name: "l", Rules: rules, Limits: limits, Devices: devices, Tenants: devices}
	_, err := NewLane(whole)
	require.NoError(t, err)
	for name, damage := range map[string]func(*LaneOptions){
		"name":     func(o *LaneOptions) { o.Name = "" },
		"rules":    func(o *LaneOptions) { o.Rules = nil },
		"limits":   func(o *LaneOptions) { o.Limits = nil },
		"topics":   func(o *LaneOptions) { o.Rules = &Rules{} },
		"devices":  func(o *LaneOptions) { o.Devices = nil },
		"tenants":  func(o *LaneOptions) { o.Tenants = nil },
		"formats":  func(o *LaneOptions) { o.Rules = &Rules{Topics: rules.Topics, Formats: []Format{Raw, Raw}} },
		"registry": func(o *LaneOptions) { o.Rules = &Rules{Topics: rules.Topics, Registry: certificates.New()} },
	} {
		o := whole
		damage(&o)
		_, err := NewLane(o)
		require.ErrorContains(t, err, "create lane: ", name)
	}
}

func testFullLaneAsksForAPause(t *testing.T) {
	t.Parallel()
	s := play(t)
	for id := range maxUnsettled {
		require.Nil(t, s.Ready())
		s.deliver(uint16(id+1), telemetry, "a")
	}
	room := s.Ready()
	s.deliver(maxUnsettled+1, telemetry, "taken all the same")
	for i := range maxUnsettled / 2 {
		requireClosed(t, room, false)
		s.Settle(&Result{Token: s.stream.messages[i].token})
	}
	requireClosed(t, room, false)
	s.stream.store(maxUnsettled / 2)
	requireClosed(t, room, true)
	require.Nil(t, s.Ready())
}

func testDroppedQoS0DoesNotFillTheLane(t *testing.T) {
	t.Parallel()
	s := play(t, func(o *LaneOptions) { o.Rules.Quarantine = false })
	s.deliver(1, telemetry, "waits for JetStream")
	for range 2 * maxUnsettled {
		s.deliver(0, "elsewhere", "dropped", qos0)
	}
	require.Nil(t, s.Ready())
	require.Equal(t, uint64(2*maxUnsettled), s.Counts().QuarantineSkipped)
	require.Equal(t, 1, s.Counts().InFlight)
	s.stream.store(0)
	require.Equal(t, []uint16{1}, s.conn.acked())
}

// stuckConn is a connection to a broker that has stopped reading.
type stuckConn struct {
	brokerEnd
	writing chan struct{} // gets a token at the beginning of a write
	reads   chan struct{} // closed when the broker reads again
}

func (c *stuckConn) Flush() {
	c.writing <- struct{}{}
	<-c.reads
}

func testStalledBrokerBlocksNoLock(t *testing.T) {
	t.Parallel()
	s := play(t)
	s.Disconnected(s.conn)
	stuck := &stuckConn{writing: make(chan struct{}, 2), reads: make(chan struct{})}
	s.Connected(stuck, true)
	for id := range uint16(ackBatch + 1) {
		d := Delivery{Topic: []byte(telemetry), PacketID: id + 1, QoS: 1, ReceivedAt: s.now}
		s.Deliver(stuck, &d)
	}
	settled := make(chan struct{})
	go func() {
		defer close(settled)
		for i := range ackBatch {
			s.stream.store(i)
		}
	}()
	<-stuck.writing // Settle writes a full batch while the broker does not read
	require.EqualValues(t, ackBatch, s.Counts().Stored, "the counts can be read")
	require.Nil(t, s.Ready())
	s.Tick()
	require.NotNil(t, s.Idle())
	s.Deliver(stuck, &Delivery{Topic: []byte(telemetry), PacketID: 1000, QoS: 1, ReceivedAt: s.now})
	require.EqualValues(t, ackBatch+2, s.Counts().Received)
	close(stuck.reads)
	<-settled
	require.Len(t, stuck.acked(), ackBatch)
}
