package conn_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/tlsfile"
	"mqtt-nats-bridge/jetstream/conn"
)

// listening is a server that sends this text to each client and reads the answers.
func listening(t *testing.T, greeting string) (url string) {
	return "nats://" + peers.Serve(t, func(c net.Conn) {
		_, _ = c.Write([]byte(greeting))
		_, _ = c.Read(make([]byte, 4096))
	})
}

func TestConnectProblem(t *testing.T) {
	t.Parallel()
	ca := natstest.NewCA(t, "root")
	sub := ca.Intermediate(t, "issuing")
	trusting := conn.Options{TLSFiles: conn.TLSFiles{Files: tlsfile.Files{CA: ca.File}}}
	first := conn.Options{TLSFiles: conn.TLSFiles{Files: tlsfile.Files{CA: ca.File}, HandshakeFirst: true}}
	for name, test := range map[string]struct {
		server  func(*natsd.Options)
		options conn.Options
		scheme  string // instead of nats
		cause   conn.Cause
		says    string
	}{
		"tls to a plain server":      {nil, trusting, "", conn.CausePlain, "offers no TLS, which is required here"},
		"tls scheme, plain server":   {nil, conn.Options{}, "tls", conn.CausePlain, "offers no TLS, which is required here"},
		"handshake first, plain":     {nil, first, "", conn.CausePlain, "offers no TLS, which is required here: it sends its greeting in plain text"},
		"handshake first, not there": {ca.ServerTLS(t, false), first, "", conn.CauseGreetsFirst, "greets before TLS, and handshake_first is set here"},
		"handshake first, not here": {
			func(o *natsd.Options) {
				ca.ServerTLS(t, false)(o)
				o.TLSHandshakeFirst, o.TLSTimeout = true, 0.1
			}, trusting, "", conn.CauseSilent, "accepts the connection but sends no greeting",
		},
		"no san": {
			ca.WithCertificate(t, func(c *x509.Certificate) { c.IPAddresses = nil }), trusting, "", conn.CauseNoSAN,
			`has a certificate without subject alternative names: it has only the common name "nats.test", which clients ignore`,
		},
		"another host": {
			ca.WithCertificate(t, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"nats.test"} }), trusting, "", conn.CauseHostname,
			"has a certificate for a different host: it is for nats.test, not for 127.0.0.1",
		},
		"expired": {
			ca.WithCertificate(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), trusting, "", conn.CauseDates,
			"has a certificate that is not valid now: it is valid from",
		},
		"a client's certificate": {
			ca.WithCertificate(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), trusting, "", conn.CauseUsage,
			"has a certificate that is not valid for servers",
		},
		"missing intermediate": {
			sub.WithCertificate(t, nil), trusting, "", conn.CauseChain,
			`has a certificate whose issuer is neither trusted nor sent with it: "CN=issuing" issued it`,
		},
		"unknown ca": {
			sub.WithCertificate(t, nil, sub), conn.Options{TLSFiles: conn.TLSFiles{Files: tlsfile.Files{CA: natstest.NewCA(t, "another").File}}}, "", conn.CauseAuthority,
			`has a certificate of a CA that is not trusted here: its chain ends at "CN=root"`,
		},
		"ca of the same name": {
			ca.WithCertificate(t, nil), conn.Options{TLSFiles: conn.TLSFiles{Files: tlsfile.Files{CA: natstest.NewCA(t, "root").File}}}, "", conn.CauseAuthority,
			`has a certificate of a CA that is not trusted here: "CN=root" issued it, and the trusted CA of that name has a different key`,
		},
		"no client certificate": {ca.ServerTLS(t, true), trusting, "", conn.CauseClientCert, "refuses the client certificate or requires one"},
		"tls version": {
			func(o *natsd.Options) {
				ca.ServerTLS(t, false)(o)
				o.TLSConfig.MaxVersion, o.TLSConfig.MinVersion = tls.VersionTLS11, tls.VersionTLS10
			}, trusting, "", conn.CauseTLSVersion, "has no TLS version in common",
		},
		"websocket to a client port": {nil, conn.Options{}, "ws", conn.CauseNotWebSocket, "does not speak WebSocket"},
		"server limit": {
			func(o *natsd.Options) { o.MaxConn = -1 }, conn.Options{}, "", conn.CauseServerLimit,
			"has reached its max_connections: maximum connections exceeded",
		},
		"server limit before tls": {
			func(o *natsd.Options) { ca.ServerTLS(t, false)(o); o.MaxConn = -1 }, trusting, "", conn.CauseServerLimit,
			"has reached its max_connections: maximum connections exceeded",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := natstest.StartServer(t, test.server)
			o := test.options
			o.URL = s.URL()
			if test.scheme != "" {
				o.URL = strings.Replace(o.URL, "nats", test.scheme, 1)
			}
			p := problemOf(t, o)
			require.Equal(t, test.cause, p.Cause, p)
			require.ErrorContains(t, p, "nats at "+o.URL+" "+test.says)
		})
	}
}

// TestConnectProblemOtherProtocols connects to ports that use other protocols.
func TestConnectProblemOtherProtocols(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		greeting string
		cause    conn.Cause
		says     string
	}{
		"another protocol":    {"SSH-2.0-OpenSSH_9.2\r\n", conn.CauseNotNATS, `does not speak NATS: it sends "SSH-2.0-OpenSSH_9.2"`},
		"a route port":        {"INFO {\"server_id\":\"x\"}\r\n-ERR 'attempted to connect to route port'\r\n", conn.CauseNotClients, "accepts no clients on this port: attempted to connect to route port"},
		"a server that waits": {"", conn.CauseSilent, "accepts the connection but sends no greeting"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := problemOf(t, conn.Options{URL: listening(t, test.greeting), ConnectTimeout: 200 * time.Millisecond})
			require.Equal(t, test.cause, p.Cause, p)
			require.ErrorContains(t, p, test.says)
		})
	}
}

// TestConnectRefusalAfterFailedWrite uses a server over its limit, which refuses and closes before
// the client has answered its greeting.
func TestConnectRefusalAfterFailedWrite(t *testing.T) {
	t.Parallel()
	s := natstest.StartServer(t, func(o *natsd.Options) { o.MaxConn = 6 })
	limited := make(chan conn.Problem, 100)
	for range 16 {
		nc, err := conn.Connect(conn.Options{
			URL: s.URL(), InitialConnectTimeout: time.Millisecond, ReconnectWait: time.Millisecond, ReconnectWaitMax: time.Millisecond,
			Hooks: conn.Hooks{ConnectFailed: func(p conn.Problem) { limited <- p }},
		}, nats.FlusherTimeout(2*time.Second))
		require.NoError(t, err)
		t.Cleanup(nc.Close)
	}
	for range 10 {
		p := natstest.Receive(t, "a problem", limited)
		require.EqualError(t, p, "nats at "+s.URL()+" has reached its max_connections: maximum connections exceeded")
	}
}
