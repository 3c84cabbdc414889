package mqtt

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/pki"
)

func TestTLS(t *testing.T) {
	t.Parallel()
	t.Run("client certificate is presented", testClientCertificateIsPresented)
	t.Run("Close ends blocked handshake", testCloseEndsBlockedHandshake)
}

func testClientCertificateIsPresented(t *testing.T) {
	t.Parallel()
	ca := authority(t)
	server, err := ca.ServerConfig()
	require.NoError(t, err)
	client, err := ca.ClientConfig("bridge/one")
	require.NoError(t, err)
	b := listen(t, server)
	r := &recorder{ack: true}
	s := b.open(r, func(o *Options) { withTLS(o, client) })
	p := b.connected(false)
	require.Equal(t, "bridge/one", p.Conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName)
	eventually(t, s, subscribed)
	p.send(publish("a", 1, pattern(300_000)))
	require.Equal(t, uint16(1), p.read().Details().MessageID)
	require.Equal(t, 300_000, r.deliveries()[0].PayloadSize)
}

func TestTLSErrors(t *testing.T) {
	t.Parallel()
	ca, stranger := authority(t), authority(t)
	good, err := ca.ClientConfig("bridge")
	require.NoError(t, err)
	foreign, err := stranger.Device("bridge")
	require.NoError(t, err)
	for name, c := range map[string]struct {
		client     func(*tls.Config)
		maxVersion uint16 // of the broker
		texts      []string
	}{
		"CA of another broker": {
			client: func(o *tls.Config) { o.RootCAs = stranger.Pool() },
			texts:  []string{"has a certificate ", "mqtts://127.0.0.1"},
		},
		"another server name": {
			client: func(o *tls.Config) { o.ServerName = "elsewhere.example" },
			texts:  []string{"has a certificate for a different host: it is for localhost", "not for elsewhere.example"},
		},
		"no client certificate, TLS 1.3": {
			client: func(o *tls.Config) { o.Certificates = nil },
			texts:  []string{"refuses the client certificate or requires one: tls: certificate required"},
		},
		"no client certificate, TLS 1.2": {
			client: func(o *tls.Config) { o.Certificates = nil }, maxVersion: tls.VersionTLS12,
			texts: []string{"refuses the client certificate or requires one"},
		},
		"client certificate of a stranger": {
			client: func(o *tls.Config) {
				// Sent although the broker asks for another CA's.
				o.Certificates = nil
				o.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &foreign, nil }
			},
			texts: []string{"refuses the client certificate or requires one: tls: unknown certificate authority"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, err := ca.ServerConfig()
			require.NoError(t, err)
			server.MaxVersion = c.maxVersion
			client := good.Clone()
			c.client(client)
			b := listen(t, server)
			r := &recorder{}
			log := &lines{}
			s := b.open(r, log.into, func(o *Options) { withTLS(o, client) })
			for range 2 {
				conn := b.accept().Conn.(*tls.Conn)
				require.Error(t, conn.Handshake())
				// A close with unread bytes would be a reset, which may
				// overtake the alert.
				_, _ = io.Copy(io.Discard, conn.NetConn())
				conn.Close()
			}
			eventually(t, s, func(st Status) bool { return strings.Contains(st.Problem, c.texts[0]) })
			for _, text := range c.texts {
				require.Contains(t, s.Status().Problem, text)
			}
			s.Close()
			require.Equal(t, 1, log.count("mqtt not connected"), "once for a state:\n%s", log)
			require.Empty(t, r.all())
		})
	}
}

func TestTLSMismatch(t *testing.T) {
	t.Parallel()
	ca := authority(t)
	server, err := ca.ServerConfig()
	require.NoError(t, err)
	client, err := ca.ClientConfig("bridge")
	require.NoError(t, err)
	t.Run("plain client", func(t *testing.T) {
		t.Parallel()
		b := listen(t, server)
		s := b.open(&recorder{})
		conn := b.accept().Conn.(*tls.Conn)
		require.Error(t, conn.Handshake())
		conn.Close()
		eventually(t, s, func(st Status) bool {
			return strings.Contains(st.Problem, "instead of answering CONNECT") || strings.Contains(st.Problem, "speaks TLS")
		})
	})
	t.Run("plain broker", func(t *testing.T) {
		t.Parallel()
		b := listen(t, nil)
		s := b.open(&recorder{}, func(o *Options) { withTLS(o, client) })
		p := b.accept()
		p.send([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		p.rest()
		eventually(t, s, func(st Status) bool {
			return strings.Contains(st.Problem, "does not speak MQTT: it is an HTTP server")
		})
	})
}

func testCloseEndsBlockedHandshake(t *testing.T) {
	t.Parallel()
	b := listen(t, nil)
	s := b.open(&recorder{}, func(o *Options) { withTLS(o, &tls.Config{RootCAs: x509.NewCertPool()}) })
	p := b.accept()
	_, err := io.ReadFull(p, make([]byte, 1)) // of the ClientHello
	require.NoError(t, err)
	s.Close()
}

func authority(t *testing.T) *pki.Authority {
	t.Helper()
	ca, err := pki.New()
	require.NoError(t, err)
	return ca
}
