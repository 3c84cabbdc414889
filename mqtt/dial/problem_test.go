package dial

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/tlsfile"
)

func TestAttemptProblem(t *testing.T) {
	t.Parallel()
	garbage := errors.New("packet type 4 before CONNACK")
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
		{name: "no listener", code: 0xfe, err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, cause: CauseRefused, is: ErrUnreachable, text: "cannot be reached: dial: connection refused"},
		{name: "dial timeout", code: 0xfe, err: &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, cause: CauseNoAnswer, is: ErrUnreachable, text: "cannot be reached: dial: i/o timeout"},
		{name: "no such host", code: 0xfe, err: &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "h"}}, cause: CauseHost, is: ErrUnreachable, text: "cannot be reached: dial: lookup h: no such host"},
		{name: "silence", code: 0xfe, err: &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, cause: CauseSilent, is: ErrUnreachable, text: "accepts the connection but does not answer: no CONNACK within 25s"},
		{name: "closed", code: 0xfe, err: io.EOF, cause: CauseHungUp, is: ErrRefused, text: "closes the connection instead of answering CONNECT: EOF"},
		{name: "reset", code: 0xfe, err: &net.OpError{Op: "read", Err: syscall.ECONNRESET}, cause: CauseHungUp, is: ErrRefused, text: "closes the connection instead of answering CONNECT"},
		{name: "reset at CONNECT", code: 0xfe, err: &net.OpError{Op: "write", Err: syscall.EPIPE}, cause: CauseHungUp, is: ErrRefused, text: "closes the connection instead of answering CONNECT"},
		{name: "garbage", code: 0xfe, err: garbage, cause: CauseNotMQTT, is: garbage, text: "does not speak MQTT: "},
		{name: "HTTP", code: 0xfe, err: garbage, said: said("HTTP/1.1 400 Bad Request"), cause: CauseNotMQTT, is: garbage, text: "does not speak MQTT: it is an HTTP server"},
		{name: "NATS", code: 0xfe, err: garbage, said: said("INFO {"), cause: CauseNotMQTT, is: garbage, text: "does not speak MQTT: it is a NATS server"},
		{name: "SSH", code: 0xfe, err: garbage, said: said("SSH-2.0-OpenSSH_9.2\r\n"), cause: CauseNotMQTT, is: garbage, text: `does not speak MQTT: it sends "SSH-2.0-OpenSSH_9.2"`},
		{name: "TLS", code: 0xfe, err: garbage, said: []byte{0x15, 3, 3, 0, 2, 2, 10}, cause: CauseTLSPort, is: ErrRefused, text: "speaks TLS, which is not used here"},
		{name: "MQTT for TLS", code: 0xfe, server: Server{TLS: true}, err: tls.RecordHeaderError{RecordHeader: [5]byte{0x20, 2, 0, 1}}, cause: CausePlain, is: ErrUnreachable, text: "speaks MQTT without TLS"},
		{name: "alert", code: 0xfe, err: &net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}, cause: Cause(tlsfile.ClientCertificate), is: ErrCredentials, text: "refuses the client certificate or requires one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.server.Address = "broker:1883"
			a := Attempt{Server: c.server, Login: &Login{Username: "u"}, Connack: c.code, Received: c.said, NotMQTT: c.err == garbage, Err: c.err}
			if c.server.TLS {
				a.Err = &handshakeError{c.err}
			}
			err := a.Problem(nil)
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
		a := Attempt{Login: &Login{}, Connack: 5, Err: packets.ErrorRefusedNotAuthorised}
		err := a.Problem(nil)
		require.Equal(t, CauseNoCredentials, err.Cause)
		require.ErrorIs(t, err, ErrCredentials)
	})
}
