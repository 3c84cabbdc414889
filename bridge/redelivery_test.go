package bridge

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/journal"
)

const same = `{"state":"ON"}`

// served is a lane that has received n equal messages with consecutive ids from first on. All are
// stored and acknowledged.
func served(t tester, first, n int, adjust ...func(*LaneOptions)) *script {
	t.Helper()
	s := play(t, adjust...)
	for i := range n {
		s.deliver(turn(first+i), telemetry, same)
	}
	s.storeAll()
	require.Len(t, s.conn.acked(), n)
	return s
}

// turn returns the i-th packet id of a broker that assigns them consecutively from 1.
func turn(i int) uint16 { return uint16((i-1)%(journal.PacketIDs-1)) + 1 }

// storeAll confirms every published message.
func (s *script) storeAll() {
	for _, m := range s.stream.all() {
		s.Settle(&Result{Token: m.token})
	}
}

// again redelivers consecutive ids from the broker.
func (s *script) again(first, last int) {
	for i := first; i <= last; i++ {
		s.deliver(turn(i), telemetry, same, dup)
	}
}

// pass advances the clock of a running process.
func (s *script) pass(d time.Duration) {
	for ; d > 0; d -= time.Second {
		s.tick(time.Second)
		s.Tick()
	}
}

func (s *script) stored() int { return len(s.stream.all()) }

// The broker keeps its packet ids, so lost PUBACKs cause no duplicates.
func TestRedeliveryRunToLatest(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]int{"in the middle": 100, "across the last packet id": 65_500} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := served(t, first, 60)
			s.deliver(turn(first+60), telemetry, same) // waits for JetStream
			c := s.connect(true)
			s.again(first+20, first+59)
			require.Empty(t, c.acked(), "the run is not decided yet")
			s.again(first+60, first+60)
			require.Len(t, c.acked(), 40)
			s.again(first+61, first+70) // sent on the old connection, and never read
			s.storeAll()
			require.Equal(t, 71, s.stored())
			require.Len(t, c.acked(), 51)
		})
	}
}

// The broker has read all PUBACKs. Its later messages on the dead connection are redelivered with
// DUP, and with packet ids of earlier messages.
func TestRedeliveryRunBeforeLatest(t *testing.T) {
	t.Parallel()
	for _, goOn := range []string{"new message", "contradiction", "silence"} {
		t.Run(goOn, func(t *testing.T) {
			t.Parallel()
			s := served(t, 1, 15_000)
			c := s.connect(true)
			s.again(7_000, 7_499)
			require.Empty(t, c.acked())
			want := 15_500
			switch goOn {
			case "new message":
				s.deliver(7_500, telemetry, same)
				want++
			case "contradiction":
				s.deliver(9_000, telemetry, same, dup)
				want++
			case "silence":
				s.pass(10 * time.Second)
			}
			require.Equal(t, want, s.stored())
			s.storeAll()
			require.Len(t, c.acked(), want-15_000)
		})
	}
}

// A device sets DUP itself, or a broker restarts its numbering on each connection: all packet ids
// repeat.
func TestRedeliveryRepeatedMessages(t *testing.T) {
	t.Parallel()
	for name, adjust := range map[string]func(*script){
		"reconnected": func(s *script) { s.connect(true) },
		"restarted": func(s *script) {
			old := s
			*s = *play(s.t, func(o *LaneOptions) { o.Journal = old.journal })
		},
		"on the same connection": func(s *script) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := served(t, 1, 20)
			adjust(s)
			before, first := s.stored(), 1
			if name == "on the same connection" {
				first = 21 // the ids continue on the same connection
			}
			s.again(first, first+19)
			s.pass(10 * time.Second)
			require.Equal(t, 20, s.stored()-before)
			s.storeAll()
			acked := s.conn.acked()
			require.Len(t, acked[len(acked)-20:], 20)
		})
	}
}

// RabbitMQ numbers from 1 on each connection. Redelivery is recognized by the content, and only for
// as many messages as can be redelivered.
func TestRedeliveryRenumbering(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		content       func(int) string
		lost, twice   int // PUBACKs, messages
		waits, unread int
	}{
		"distinct, waiting":                  {distinct, 0, 0, 10, 0},
		"distinct, PUBACKs waiting or lost":  {distinct, 4, 0, 6, 0},
		"distinct, all three":                {distinct, 3, 0, 4, 3},
		"distinct, lost PUBACKs alone":       {distinct, 5, 5, 0, 0},
		"identical, waiting":                 {identical, 0, 0, 10, 0},
		"identical, waiting and never read":  {identical, 0, 0, 5, 5},
		"identical, PUBACKs waiting or lost": {identical, 4, 4, 6, 0},
		"identical, lost PUBACKs alone":      {identical, 5, 5, 0, 0},
		"identical, never read alone":        {identical, 0, 0, 0, 10},
		"five devices, waiting and lost":     {inTurns, 4, 0, 5, 0},
		"five devices, a whole turn twice":   {inTurns, 5, 5, 5, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := play(t)
			const acked = 50
			for i := range acked + c.waits {
				s.deliver(uint16(i+1), telemetry, c.content(i))
				if i < acked {
					s.stream.store(i)
				}
			}
			conn := s.connect(true)
			from, n := acked-c.lost, c.lost+c.waits+c.unread
			for i := range n {
				s.deliver(uint16(i+1), telemetry, c.content(from+i), dup)
			}
			s.deliver(uint16(n+1), telemetry, "new")
			s.storeAll()
			require.Equal(t, acked+c.waits+c.unread+1+c.twice, s.stored())
			require.Len(t, conn.acked(), n+1)
		})
	}
}

func distinct(i int) string { return fmt.Sprint(i) }

func identical(int) string { return same }

func inTurns(i int) string { return fmt.Sprint(i % 5) }

// Another process had the session while this one was stopped. Since then the packet ids have
// wrapped around to the same position.
func TestRedeliveryStoppedProcess(t *testing.T) {
	t.Parallel()
	stop := func(s *script) {
		s.tick(10 * time.Second) // without a Tick
		s.connect(true)
	}
	t.Run("identical", func(t *testing.T) {
		t.Parallel()
		s := served(t, 101, 900)
		stop(s)
		s.again(991, 1010)
		s.storeAll()
		require.Equal(t, 920, s.stored())
		require.Len(t, s.conn.acked(), 20)
	})
	t.Run("distinct", func(t *testing.T) {
		t.Parallel()
		s := play(t)
		for i := range 900 {
			s.deliver(uint16(101+i), telemetry, distinct(i))
		}
		s.storeAll()
		stop(s)
		for i := range 10 {
			s.deliver(uint16(991+i), telemetry, distinct(890+i), dup)
		}
		require.Len(t, s.conn.acked(), 10)
		require.Equal(t, 900, s.stored())
	})
	t.Run("distinct, numbered anew", func(t *testing.T) {
		t.Parallel()
		s := play(t)
		for i := range 900 {
			s.deliver(uint16(1+i), telemetry, distinct(i))
		}
		stop(s) // the messages in flight now were delivered to the other process
		s.deliver(1, telemetry, distinct(899), dup)
		s.storeAll()
		require.Equal(t, 901, s.stored())
	})
	t.Run("a long outage", func(t *testing.T) {
		t.Parallel()
		s := served(t, 101, 900)
		s.Disconnected(s.conn)
		s.pass(2 * time.Minute)
		s.Connected(s.conn, true)
		s.again(991, 1010)
		require.Equal(t, 920, s.stored())
	})
	t.Run("outlived by the connection", func(t *testing.T) {
		t.Parallel()
		s := served(t, 101, 900)
		s.tick(10 * time.Second)
		s.pass(10 * time.Second)
		s.connect(true)
		s.again(991, 1000)
		require.Equal(t, 900, s.stored())
		require.Len(t, s.conn.acked(), 10)
	})
	t.Run("killed before it was known", func(t *testing.T) {
		t.Parallel()
		j := journal.New()
		s := served(t, 101, 900, func(o *LaneOptions) { o.Journal = j })
		stop(s)
		back := play(t, func(o *LaneOptions) { o.Journal = j })
		back.now = s.now
		back.again(991, 1010)
		require.Equal(t, 20, back.stored())
	})
}

func TestRedelivery(t *testing.T) {
	t.Parallel()
	t.Run("packet ids out of order prove nothing", testPacketIdsOutOfOrderProveNothing)
	t.Run("smaller window is no deadlock", testSmallerWindowIsNoDeadlock)
	t.Run("attested message is matched by id", testAttestedMessageIsMatchedById)
	t.Run("unknown DUP does not end attested run", testUnknownDUPDoesNotEndAttestedRun)
	t.Run("killed lane reuses its old ids", testKilledLaneReusesItsOldIds)
	t.Run("each connection may start a numbering", testEachConnectionMayStartANumbering)
	t.Run("unconfirmed run before the latest is new", testUnconfirmedRunBeforeTheLatestIsNew)
}

// The broker assigns the lowest free packet id.
func testPacketIdsOutOfOrderProveNothing(t *testing.T) {
	t.Parallel()
	s := play(t)
	for range 50 {
		s.deliver(1, telemetry, same)
		s.storeAll()
	}
	s.deliver(1, telemetry, same)
	s.deliver(2, telemetry, same)
	s.storeAll()
	s.connect(true)
	s.again(1, 2)
	require.Equal(t, 54, s.stored())
}

// The broker waits for PUBACKs of redelivered messages, because its window is now smaller.
func testSmallerWindowIsNoDeadlock(t *testing.T) {
	t.Parallel()
	s := served(t, 1, 100)
	c := s.connect(true)
	for i := 60; i <= 100; {
		if from := len(c.acked()); from == i-60 {
			s.deliver(turn(i), telemetry, same, dup)
			i++
		}
		s.pass(time.Second)
		s.storeAll()
	}
	require.Len(t, c.acked(), 41)
	require.Equal(t, 141, s.stored())
}

// On attested topics the broker's id is proof, although EMQX omits DUP after a takeover.
func testAttestedMessageIsMatchedById(t *testing.T) {
	t.Parallel()
	s := play(t, attested(t))
	topic := func(n int) string { return vouched(fmt.Sprintf("%032X", n), noon, "acme/dev-1", telemetry) }
	for i := range 20 {
		s.deliver(uint16(i+1), topic(i), same)
	}
	for i := range 15 {
		s.stream.store(i)
	}
	c := s.connect(true)
	for i := 10; i < 20; i++ {
		var how []with
		if i%2 == 0 {
			how = append(how, dup)
		}
		s.deliver(uint16(i+1), topic(i), same, how...)
	}
	s.deliver(21, topic(21), same)
	require.Equal(t, 21, s.stored())
	require.Equal(t, []uint16{11, 12, 13, 14, 15}, c.acked())
	s.storeAll()
	require.Len(t, c.acked(), 11)
}

// An unrelated DUP, such as a device's own, does not end the redelivered run.
func testUnknownDUPDoesNotEndAttestedRun(t *testing.T) {
	t.Parallel()
	s := play(t, attested(t))
	topic := func(n int) string { return vouched(fmt.Sprintf("%032X", n), noon, "acme/dev-1", telemetry) }
	for i := range 3 {
		s.deliver(uint16(i+1), topic(i), same)
	}
	s.connect(true)
	s.deliver(31, topic(0), same, dup) // under other packet ids
	s.deliver(39, topic(9), same, dup)
	s.deliver(32, topic(1), same, dup)
	s.deliver(33, topic(2), same, dup)
	require.Equal(t, 4, s.stored())
}

// A known but unstored message is published under its old id, with its old time.
func testKilledLaneReusesItsOldIds(t *testing.T) {
	t.Parallel()
	j := journal.New()
	s := play(t, func(o *LaneOptions) { o.Journal = j })
	s.now = time.Now().Add(time.Hour).UnixNano() // the journal's numbers start from the real clock
	s.pass(time.Second)
	for i := range 6 {
		s.deliver(uint16(i+1), telemetry, distinct(i))
	}
	s.stream.store(0)
	s.stream.store(3)
	back := play(t, func(o *LaneOptions) { o.Journal = j })
	for i := range 5 {
		back.deliver(uint16(i+2), telemetry, distinct(i+1), dup)
	}
	was, is := s.stream.all(), back.stream.all()
	require.Len(t, is, 4)
	for i, k := range []int{1, 2, 4, 5} {
		require.Equal(t, was[k].id, is[i].id)
	}
	back.storeAll()
	require.Equal(t, []uint16{2, 3, 4, 5, 6}, back.conn.acked())
	require.InDelta(t, float64(s.now), float64(back.message.FirstAttempt), 2e9)
}

// fencedEnd is a connection whose broker confirms handled packets.
type fencedEnd struct {
	brokerEnd
	mark uint64
}

func (c *fencedEnd) Fence(mark uint64) { c.mark = mark }

func TestRedeliveryFence(t *testing.T) {
	t.Parallel()
	t.Run("packet id after handled PUBACK is new", testPacketIdAfterHandledPUBACKIsNew)
	t.Run("answer on earlier connection is ignored", testAnswerOnEarlierConnectionIsIgnored)
	t.Run("message before answer is not confirmed", testMessageBeforeAnswerIsNotConfirmed)
	t.Run("message crossing its PUBACK is matched", testMessageCrossingItsPUBACKIsMatched)
}

// A message whose PUBACK the broker has handled is not redelivered. If its packet id appears again,
// the ids have wrapped around.
func testPacketIdAfterHandledPUBACKIsNew(t *testing.T) {
	t.Parallel()
	s := play(t)
	s.Disconnected(s.conn)
	c := &fencedEnd{}
	s.Connected(c, true)
	deliver := func(first, last int, how ...with) {
		for i := first; i <= last; i++ {
			d := Delivery{Topic: []byte(telemetry), Payload: []byte(same), PayloadSize: len(same), ReceivedAt: s.now, PacketID: turn(i), QoS: 1}
			for _, f := range how {
				f(&d)
			}
			s.Deliver(c, &d)
		}
		s.storeAll()
	}
	s.pass(time.Second)
	require.Zero(t, c.mark, "there is nothing to ask for")
	deliver(1, 100)
	s.pass(time.Second)
	deliver(101, 110)
	s.Confirmed(c, c.mark)
	s.Disconnected(c)
	s.Connected(c, true)
	deliver(96, 110, dup)
	s.Deliver(c, &Delivery{Topic: []byte(telemetry), PacketID: 111, QoS: 1, ReceivedAt: s.now})
	require.Equal(t, 126, s.stored(), "96 to 100 had arrived")
	s.storeAll()
	s.pass(time.Second)
	s.Confirmed(c, c.mark)
	s.Disconnected(c)
	s.Connected(c, true)
	deliver(111, 115, dup)
	require.Equal(t, 131, s.stored())
}

// The connection is idle: the broker has answered and delivered nothing.
func TestRedeliverySilentConnection(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ held, more, want int }{
		"nothing":                {0, 0, 0},
		"part of a run":          {3, 0, 3},
		"more before the answer": {3, 4, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := served(t, 1, 100)
			s.Disconnected(s.conn)
			end := &fencedEnd{}
			s.Connected(end, true)
			deliver := func(first, last int) {
				for i := first; i <= last; i++ {
					s.Deliver(end, &Delivery{Topic: []byte(telemetry), Payload: []byte(same), PayloadSize: len(same), ReceivedAt: s.now, PacketID: turn(i), QoS: 1, Dup: true})
				}
			}
			deliver(91, 90+c.held)
			s.pass(time.Second)
			require.Zero(t, end.mark)
			s.pass(2 * time.Second)
			require.Equal(t, runMark, end.mark)
			deliver(91+c.held, 90+c.held+c.more)
			s.Confirmed(end, end.mark)
			require.Equal(t, c.want, s.stored()-100)
			if c.held == 0 {
				deliver(91, 100)
				require.Equal(t, 10, s.stored()-100)
			}
		})
	}
}

// A broker's answer counts only on the connection of the question.
func testAnswerOnEarlierConnectionIsIgnored(t *testing.T) {
	t.Parallel()
	s := play(t)
	s.Disconnected(s.conn)
	first, second := &fencedEnd{}, &fencedEnd{}
	deliver := func(c Conn, id int, dup bool) {
		s.Deliver(c, &Delivery{Topic: []byte(telemetry), Payload: []byte(same), PayloadSize: len(same), ReceivedAt: s.now, PacketID: turn(id), QoS: 1, Dup: dup})
	}
	s.Connected(first, true)
	for i := 1; i <= 100; i++ {
		deliver(first, i, false)
	}
	s.storeAll()
	s.pass(time.Second)
	require.NotZero(t, first.mark)
	s.Disconnected(first)
	s.Connected(second, true)
	s.Confirmed(first, first.mark)
	for i := 91; i <= 100; i++ {
		deliver(second, i, true)
	}
	require.Equal(t, 100, s.stored())
}

// The question was sent before any delivery. Its answer does not cover a message that was delivered
// between question and answer.
func testMessageBeforeAnswerIsNotConfirmed(t *testing.T) {
	t.Parallel()
	s := served(t, 1, 100)
	s.Disconnected(s.conn)
	end := &fencedEnd{}
	s.Connected(end, true)
	s.pass(3 * time.Second)
	require.Equal(t, runMark, end.mark)
	d := Delivery{Topic: []byte(telemetry), Payload: []byte(same), PayloadSize: len(same), ReceivedAt: s.now, PacketID: turn(101), QoS: 1}
	s.Deliver(end, &d)
	s.Confirmed(end, end.mark)
	s.Disconnected(end)
	s.connect(true)
	s.again(101, 101)
	s.deliver(turn(102), telemetry, same)
	require.Equal(t, 102, s.stored())
}

// Even if the first packet id of a connection would continue the numbering of the previous
// connection, it can begin a new numbering.
func testEachConnectionMayStartANumbering(t *testing.T) {
	t.Parallel()
	s := served(t, 1, 40_000)
	s.connect(true)
	for i := range 5 {
		s.deliver(turn(1+i), telemetry, same)
	}
	s.storeAll()
	s.connect(true)
	s.again(1, 5)
	require.Equal(t, 40_010, s.stored())
}

// A run that was limited by the broker's window continues with DUP, or without it if contents do
// not recur. If they recur, the message is new: the broker was set back.
func TestRedeliveryInterruptedRun(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		payload func(int) string
		dup     bool
		last    string // the content of the last delivery; "": that of the previous one
		want    int    // number of new messages
	}{
		"equal, DUP":            {func(int) string { return same }, true, "", 0},
		"equal, no DUP":         {func(int) string { return same }, false, "", 2},
		"distinct, DUP":         {distinct, true, "", 0},
		"distinct, no DUP":      {distinct, false, "", 0},
		"the last is another's": {distinct, true, "another's", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := play(t)
			for i := range 200 {
				s.deliver(turn(i+1), telemetry, c.payload(i))
				if i < 190 {
					s.stream.store(i)
				}
			}
			s.Disconnected(s.conn)
			end := &fencedEnd{}
			s.Connected(end, true)
			deliver := func(i int, dup bool) {
				payload := c.payload(i)
				if i == 199 && c.last != "" {
					payload = c.last
				}
				s.Deliver(end, &Delivery{
					Topic: []byte(telemetry), Payload: []byte(payload), PayloadSize: len(payload),
					ReceivedAt: s.now, PacketID: turn(i + 1), QoS: 1, Dup: dup,
				})
			}
			for i := 180; i < 198; i++ {
				deliver(i, true)
			}
			s.pass(3 * time.Second)
			require.Equal(t, runMark, end.mark)
			s.Confirmed(end, end.mark)
			require.Equal(t, 200, s.stored())
			require.Len(t, end.acked(), 10, "the window's beginning is stored")
			deliver(198, c.dup)
			deliver(199, c.dup)
			require.Equal(t, 200+c.want, s.stored())
			s.storeAll()
			require.Len(t, end.acked(), 20)
		})
	}
}

// For a broker that restarts its numbering, a run is recognized only if its contents continue to
// the latest delivery, and only if a message waits.
func TestRedeliveryRenumberedRun(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ waiting, first, last, want int }{
		"to the latest":                 {3, 5, 10, 0},
		"not to the latest":             {3, 5, 9, 5},
		"without all that waits":        {3, 9, 10, 2},
		"nothing waits":                 {0, 5, 10, 6},
		"and on with what is not known": {3, 5, 13, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := play(t)
			for i := 1; i <= 10; i++ {
				s.deliver(turn(i), telemetry, distinct(i))
				if i <= 10-c.waiting {
					s.stream.store(i - 1)
				}
			}
			s.connect(true)
			for i := c.first; i <= c.last; i++ {
				s.deliver(turn(i-c.first+1), telemetry, distinct(i), dup)
			}
			s.deliver(turn(c.last-c.first+2), telemetry, "new")
			require.Equal(t, c.want, s.stored()-11)
		})
	}
}

// A message that is resent on the same connection crossed its PUBACK. Once the broker has confirmed
// that it handled the PUBACK, the packet id belongs to another message.
func testMessageCrossingItsPUBACKIsMatched(t *testing.T) {
	t.Parallel()
	s := play(t)
	s.Disconnected(s.conn)
	c := &fencedEnd{}
	s.Connected(c, true)
	send := func(id int, dup bool) {
		s.Deliver(c, &Delivery{
			Topic: []byte(telemetry), Payload: []byte(same), PayloadSize: len(same), ReceivedAt: s.now,
			PacketID: turn(id), QoS: 1, Dup: dup,
		})
	}
	for i := 1; i <= 20; i++ {
		send(i, false)
	}
	s.storeAll()
	for i := 5; i <= 20; i++ {
		send(i, true)
	}
	require.Equal(t, 20, s.stored())
	require.Len(t, c.acked(), 36, "each is acknowledged again")
	send(21, true) // DUP set by a device
	require.Equal(t, 21, s.stored())
	s.storeAll()
	s.pass(2 * time.Second)
	require.EqualValues(t, 22, c.mark)
	s.Confirmed(c, c.mark)
	send(15, true)
	require.Equal(t, 22, s.stored())
}

// Without the broker's answer, a sequence that does not reach the latest delivery is not a run,
// whether or not a message waits.
func testUnconfirmedRunBeforeTheLatestIsNew(t *testing.T) {
	t.Parallel()
	s := served(t, 1, 200)
	s.deliver(201, telemetry, same)
	s.deliver(202, telemetry, same)
	s.connect(true)
	s.again(195, 201)
	s.deliver(300, telemetry, same)
	require.Equal(t, 202+8, s.stored())
}
