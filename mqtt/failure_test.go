package mqtt

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/tlsfile"
)

func TestConnectErrorsAreToldApart(t *testing.T) {
	t.Parallel()
	network := func(err error) error { // as paho v1.5.1 wraps it
		return fmt.Errorf("%w : %w", packets.ErrorNetworkError, err)
	}
	said := func(text string) []byte { return []byte(text) }
	for _, c := range []struct {
		name   string
		code   byte
		err    error
		server Server
		said   []byte
		cause  Cause
		is     error
		text   string
	}{
		{name: "protocol version", code: 1, err: packets.ErrorRefusedBadProtocolVersion, cause: CauseVersion, is: ErrRefused, text: "does not accept MQTT 3.1.1: CONNACK 1"},
		{name: "client id", code: 2, err: packets.ErrorRefusedIDRejected, cause: CauseClientID, is: ErrRefused, text: "refuses the client id: CONNACK 2"},
		{name: "unavailable", code: 3, err: packets.ErrorRefusedServerUnavailable, cause: CauseUnavailable, is: ErrRefused, text: "is not available: CONNACK 3"},
		{name: "password", code: 4, err: packets.ErrorRefusedBadUsernameOrPassword, cause: CauseCredentials, is: ErrCredentials, text: "refuses the credentials: CONNACK 4, bad user name or password"},
		{name: "not authorized", code: 5, err: packets.ErrorRefusedNotAuthorised, cause: CauseCredentials, is: ErrCredentials, text: "refuses the credentials: CONNACK 5, not authorized"},
		{name: "nobody listens", code: 0xfe, err: network(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), cause: CauseRefused, is: ErrUnreachable, text: "cannot be reached: dial: connection refused"},
		{name: "dial timeout", code: 0xfe, err: network(&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}), cause: CauseNoAnswer, is: ErrUnreachable, text: "cannot be reached: dial: i/o timeout"},
		{name: "no such host", code: 0xfe, err: network(&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "h"}}), cause: CauseHost, is: ErrUnreachable, text: "cannot be reached: dial: lookup h: no such host"},
		{name: "silence", code: 0xfe, err: network(&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}), cause: CauseSilent, is: ErrUnreachable, text: "accepts the connection but does not answer: no CONNACK within 25s"},
		{name: "closed", code: 0xfe, err: network(io.EOF), cause: CauseHungUp, is: ErrRefused, text: "closes the connection instead of answering CONNECT: EOF"},
		{name: "reset", code: 0xfe, err: network(&net.OpError{Op: "read", Err: syscall.ECONNRESET}), cause: CauseHungUp, is: ErrRefused, text: "closes the connection instead of answering CONNECT"},
		{name: "reset at CONNECT", code: 0xfe, err: &net.OpError{Op: "write", Err: syscall.EPIPE}, cause: CauseHungUp, is: ErrRefused, text: "closes the connection instead of answering CONNECT"},
		{name: "garbage", code: 0xfe, err: fmt.Errorf("%w: packet type 4 before CONNACK", ErrProtocol), cause: CauseNotMQTT, is: ErrProtocol, text: "does not speak MQTT: "},
		{name: "HTTP", code: 0xfe, err: ErrProtocol, said: said("HTTP/1.1 400 Bad Request"), cause: CauseNotMQTT, is: ErrProtocol, text: "does not speak MQTT: it is an HTTP server"},
		{name: "NATS", code: 0xfe, err: ErrProtocol, said: said("INFO {"), cause: CauseNotMQTT, is: ErrProtocol, text: "does not speak MQTT: it is a NATS server"},
		{name: "SSH", code: 0xfe, err: ErrProtocol, said: said("SSH-2.0-OpenSSH_9.2\r\n"), cause: CauseNotMQTT, is: ErrProtocol, text: `does not speak MQTT: it sends "SSH-2.0-OpenSSH_9.2"`},
		{name: "TLS", code: 0xfe, err: ErrMalformed, said: []byte{0x15, 3, 3, 0, 2, 2, 10}, cause: CauseTLSPort, is: ErrRefused, text: "speaks TLS, which is not used here"},
		{name: "MQTT for TLS", code: 0xfe, server: Server{TLS: true}, err: tls.RecordHeaderError{RecordHeader: [5]byte{0x20, 2, 0, 1}}, cause: CausePlain, is: ErrUnreachable, text: "speaks MQTT without TLS"},
		{name: "alert", code: 0xfe, err: &net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}, cause: Cause(tlsfile.ClientCertificate), is: ErrCredentials, text: "refuses or misses the client certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.server.Address = "broker:1883"
			a := newAttempt(c.server, &Login{Username: "u"}, c.code, nil, c.err)
			a.said, a.handshake = c.said, c.server.TLS
			err := a.problem(nil)
			require.Equal(t, c.cause, err.Cause)
			require.ErrorContains(t, err, "broker at "+c.server.URL()+" "+c.text)
			require.ErrorIs(t, err, c.is)
			for _, other := range []error{ErrUnreachable, ErrCredentials, ErrRefused} {
				require.Equal(t, other == c.is, errors.Is(err, other), "%v", other)
			}
		})
	}
	t.Run("no credentials", func(t *testing.T) {
		t.Parallel()
		err := newAttempt(Server{}, &Login{}, 5, nil, packets.ErrorRefusedNotAuthorised).problem(nil)
		require.Equal(t, CauseNoCredentials, err.Cause)
		require.ErrorIs(t, err, ErrCredentials)
	})
}

// requirePause checks a pause against its base, jitter allowed for.
func requirePause(t *testing.T, base, pause time.Duration, what string, n int) {
	t.Helper()
	require.GreaterOrEqual(t, pause, base*3/4, "%s %d", what, n)
	require.Less(t, pause, base*5/4, "%s %d", what, n)
}

func TestPausesGrowWhileConnectionsDoNotLast(t *testing.T) {
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

func TestPausesAfterARefusalBeginAtASecond(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	for _, err := range []error{ErrCredentials, ErrRefused, fmt.Errorf("%w to a/#", ErrSubscriptionRefused)} {
		b := backoff{failures: 3}
		base := refusedPause
		for n := range 10 {
			requirePause(t, base, b.next(now, 0, err), err.Error(), n)
			base = min(2*base, maxPause)
		}
		b.next(now, 0, ErrUnreachable)
		requirePause(t, refusedPause, b.next(now, 0, err), "after another failure", 0)
	}
}

func TestPausesStayShortAfterALinkThatHadWorked(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	var b backoff
	b.next(now, settledAfter, ErrClosedByBroker)
	for n := 0; ; n++ {
		if now.Sub(b.worked) >= recently {
			require.Greater(t, b.next(now, 0, ErrUnreachable), 2*time.Second, "the outage is a long one")
			break
		}
		err := []error{ErrUnreachable, ErrCredentials, ErrSubscriptionRefused, ErrRefused}[n%4]
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
func TestPauseAfterAnOutageForgetsItsFailures(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	var b backoff
	for range 20 {
		b.next(now, 0, ErrUnreachable)
		b.next(now, time.Millisecond, ErrSubscriptionRefused)
	}
	for n := range 3 {
		requirePause(t, firstPause, b.next(now, time.Second, ErrClosedByBroker), "closed", n)
		requirePause(t, firstPause, b.next(now, 0, ErrUnreachable), "unreachable", n)
	}
}

func TestTakeoverIsSeenOnlyInClosesSoonAfterConnecting(t *testing.T) {
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
		{"unreachable", 2 * time.Second, []end{{0, ErrUnreachable}}, false},
		{"a broker that restarts", 2 * time.Second, []end{closed, {0, ErrUnreachable}}, false},
		{"a broker that is not ready yet", 2 * time.Second, []end{closed, {0, ErrRefused}}, false},
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

func TestPahoTakesAReservedConnackCodeForSuccess(t *testing.T) {
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
