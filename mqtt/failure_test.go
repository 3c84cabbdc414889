package mqtt

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/mqtt/dial"
)

func TestPaho(t *testing.T) {
	t.Parallel()
	t.Run("error wrapping is stripped", testErrorWrappingIsStripped)
	t.Run("reserved CONNACK code counts as success", testReservedCONNACKCodeCountsAsSuccess)
}

func testErrorWrappingIsStripped(t *testing.T) {
	t.Parallel()
	wrapped := fmt.Errorf("%w : %w", packets.ErrorNetworkError, io.EOF) // paho v1.5.1
	require.Equal(t, io.EOF, newAttempt(dial.Server{}, &dial.Login{}, 0xfe, nil, wrapped).Err)
}

// requirePause checks a pause against its base, jitter allowed for.
func requirePause(t *testing.T, base, pause time.Duration, what string, n int) {
	t.Helper()
	require.GreaterOrEqual(t, pause, base*3/4, "%s %d", what, n)
	require.Less(t, pause, base*5/4, "%s %d", what, n)
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	t.Run("grows while connections do not last", testGrowsWhileConnectionsDoNotLast)
	t.Run("starts at refused pause after refusal", testStartsAtRefusedPauseAfterRefusal)
	t.Run("stays short after working connection", testStaysShortAfterWorkingConnection)
	t.Run("failures of an outage are forgotten", testFailuresOfAnOutageAreForgotten)
}

func testGrowsWhileConnectionsDoNotLast(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	var b backoff
	base := firstPause
	for n := 1; n < 50; n++ {
		if n > 3 {
			base = min(2*base, maxPause)
		}
		// A connection that was accepted but soon lost is a failure too.
		requirePause(t, base, b.next(now, settledAfter-1, ErrClosedByBroker), "failure", n)
	}
	requirePause(t, firstPause, b.next(now, settledAfter, ErrClosedByBroker), "after a connection that worked", 0)
}

func testStartsAtRefusedPauseAfterRefusal(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	for _, err := range []error{dial.ErrCredentials, dial.ErrRefused, fmt.Errorf("%w to a/#", ErrSubscriptionRefused)} {
		b := backoff{failures: 3}
		base := refusedPause
		for n := range 10 {
			requirePause(t, base, b.next(now, 0, err), err.Error(), n)
			base = min(2*base, maxPause)
		}
		b.next(now, 0, dial.ErrUnreachable)
		requirePause(t, refusedPause, b.next(now, 0, err), "after another failure", 0)
	}
}

func testStaysShortAfterWorkingConnection(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	var b backoff
	b.next(now, settledAfter, ErrClosedByBroker)
	for n := 0; ; n++ {
		if now.Sub(b.lastWorked) >= recently {
			require.Greater(t, b.next(now, 0, dial.ErrUnreachable), 2*time.Second, "the outage is a long one")
			break
		}
		err := []error{dial.ErrUnreachable, dial.ErrCredentials, ErrSubscriptionRefused, dial.ErrRefused}[n%4]
		pause := b.next(now, 0, err)
		require.LessOrEqual(t, pause, 2*time.Second)
		now = now.Add(pause)
	}
	b = backoff{}
	b.next(now, settledAfter, ErrClosedByBroker)
	var pause time.Duration
	for range 12 {
		pause = b.next(now, time.Second, ErrClosedByBroker)
	}
	require.Greater(t, pause, 10*time.Second, "two bridges do not fight at that pace")
}

// A lane that was kicked just after a restart of the broker is back without delay.
func testFailuresOfAnOutageAreForgotten(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	var b backoff
	for range 20 {
		b.next(now, 0, dial.ErrUnreachable)
		b.next(now, time.Millisecond, ErrSubscriptionRefused)
	}
	for n := range 3 {
		requirePause(t, firstPause, b.next(now, time.Second, ErrClosedByBroker), "closed", n)
		requirePause(t, firstPause, b.next(now, 0, dial.ErrUnreachable), "unreachable", n)
	}
}

func TestTakeoverWatch(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	type end struct {
		lived time.Duration
		err   error
	}
	closed := end{time.Second, ErrClosedByBroker}
	for _, c := range []struct {
		name  string
		every time.Duration
		ends  []end // again and again
		want  bool
	}{
		{"closed again and again", 2 * time.Second, []end{closed}, true},
		{"each lived long", time.Hour, []end{{time.Hour, ErrClosedByBroker}}, false},
		{"far apart", time.Hour, []end{closed}, false},
		{"no answer to a ping", 2 * time.Second, []end{{time.Second, errors.New("pingresp not received, disconnecting")}}, false},
		{"malformed", 2 * time.Second, []end{{time.Second, ErrMalformed}}, false},
		{"unreachable", 2 * time.Second, []end{{0, dial.ErrUnreachable}}, false},
		{"a broker that restarts", 2 * time.Second, []end{closed, {0, dial.ErrUnreachable}}, false},
		{"a broker that is not ready yet", 2 * time.Second, []end{closed, {0, dial.ErrRefused}}, false},
		{"a broker whose ACL is not loaded yet", 2 * time.Second, []end{closed, {time.Millisecond, ErrSubscriptionRefused}}, false},
	} {
		var w takeoverWatch
		var got bool
		for n := range 20 {
			e := c.ends[n%len(c.ends)]
			got = w.ended(now.Add(time.Duration(n)*c.every), e.lived, e.err)
			require.False(t, got && n < takeoverEnds-1, "%s: end %d", c.name, n+1)
		}
		require.Equal(t, c.want, got, c.name)
	}
}

func testReservedCONNACKCodeCountsAsSuccess(t *testing.T) {
	t.Parallel()
	// Why parseConnack refuses them. Where this fails after an update of
	// paho, that check may go.
	require.NoError(t, packets.ConnErrors[6])
	near, far := pipe()
	o := paho.NewClientOptions().AddBroker("tcp://tap").SetProtocolVersion(4).SetAutoReconnect(false)
	o.SetCustomOpenConnectionFn(pahoDial(near))
	client := paho.NewClient(o)
	token := client.Connect()
	_, err := packets.ReadPacket(far)
	require.NoError(t, err)
	_, err = far.Write([]byte{0x20, 2, 0, 6})
	require.NoError(t, err)
	<-token.Done()
	require.NoError(t, token.Error())
	far.Close()
	client.Disconnect(250)
}
