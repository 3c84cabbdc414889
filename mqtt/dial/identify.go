package dial

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
	"unicode"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Protocol is the protocol spoken on a port; empty: unknown.
type Protocol string

// The protocols.
const (
	ProtocolTLS  Protocol = "TLS"
	ProtocolMQTT Protocol = "MQTT"
	ProtocolHTTP Protocol = "an HTTP server"
	ProtocolNATS Protocol = "a NATS server"
)

// protocolOf detects a protocol from the first bytes that a server sends.
func protocolOf(first []byte) Protocol {
	switch {
	case bytes.HasPrefix(first, []byte("HTTP/")):
		return ProtocolHTTP
	case bytes.HasPrefix(first, []byte("INFO ")):
		return ProtocolNATS
	case len(first) >= 2 && (first[0] == 0x15 || first[0] == 0x16) && first[1] == 3: // alert, handshake
		return ProtocolTLS
	case len(first) >= 2 && first[0] == packets.Connack<<4 && first[1] == 2:
		return ProtocolMQTT
	}
	return ""
}

// quoteGreeting quotes the first line of a server that speaks another protocol; empty if it is not
// text.
func quoteGreeting(first []byte) string {
	line, _, _ := strings.Cut(string(first), "\n")
	line = strings.TrimSpace(line)
	if line == "" || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return ""
	}
	return fmt.Sprintf("it sends %.40q", line)
}

// identifyTimeout bounds each probe.
const identifyTimeout = 2 * time.Second

// Identify detects the protocol at an address. It opens separate connections, which reveal nothing
// about this client. It is used for servers that close a connection or stay silent because they
// expect another protocol.
func Identify(ctx context.Context, address string) Protocol {
	connect := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	connect.ProtocolName, connect.ProtocolVersion, connect.CleanSession = "MQTT", 4, true
	for _, probe := range []func(net.Conn){
		func(c net.Conn) { // reads any answer, not only a ServerHello
			_ = tls.Client(c, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx)
		},
		func(c net.Conn) { _ = connect.Write(c); readSome(c) },
		func(c net.Conn) { _, _ = io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); readSome(c) },
	} {
		if found := runProbe(ctx, address, probe); found != "" {
			return found
		}
	}
	return ""
}

func runProbe(ctx context.Context, address string, probe func(net.Conn)) Protocol {
	ctx, cancel := context.WithTimeout(ctx, identifyTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return ""
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	l := &recorder{Conn: conn}
	probe(l)
	return protocolOf(l.first)
}

func readSome(c net.Conn) { _, _ = io.ReadAtLeast(c, make([]byte, 16), 4) }

// recorder keeps the first bytes received.
type recorder struct {
	net.Conn
	first []byte
}

func (l *recorder) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	l.first = append(l.first, p[:min(n, 16-len(l.first))]...)
	return n, err
}
