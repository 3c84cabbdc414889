package mqtt

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/tlsfile"
	"mqtt-nats-bridge/mqtt/dial"
)

// issuer signs certificates.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issue creates a certificate, self-signed if by is nil.
func issue(t *testing.T, by *issuer, cn string, change func(*x509.Certificate)) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: cn},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if change != nil {
		change(c)
	}
	parent := &issuer{c, key}
	if by != nil {
		parent = by
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent.cert, &key.PublicKey, parent.key)
	require.NoError(t, err)
	made, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &issuer{made, key}
}

func isCA(c *x509.Certificate) {
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	c.ExtKeyUsage, c.IPAddresses = nil, nil
}

// TestCertificates requires the error of the broker's certificate, or of TLS, to be named.
func TestCertificates(t *testing.T) {
	t.Parallel()
	root := issue(t, nil, "root", isCA)
	between := issue(t, root, "between", isCA)
	trusted := x509.NewCertPool()
	trusted.AddCert(root.cert)
	for name, c := range map[string]struct {
		by     *issuer
		change func(*x509.Certificate)
		server func(*tls.Config)
		client func(*tls.Config)
		cause  tlsfile.Cause
		text   string
	}{
		"no SAN": {by: root, change: func(c *x509.Certificate) { c.IPAddresses = nil }, cause: tlsfile.NoSAN,
			text: `has a certificate without subject alternative names: it has only the common name "broker"`},
		"another host": {by: root, change: func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"emqx"} }, cause: tlsfile.Hostname,
			text: "has a certificate for a different host: it is for emqx, not for 127.0.0.1"},
		"missing intermediate": {by: between, cause: tlsfile.Chain,
			text: `has a certificate whose issuer is neither trusted nor sent with it: "CN=between" issued it`},
		"expired": {by: root, change: func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, cause: tlsfile.Dates,
			text: "has a certificate that is not valid now: it is valid from "},
		"self-signed": {cause: tlsfile.Authority,
			text: `has a certificate of a CA that is not trusted here: it is self-signed, by "CN=broker"`},
		"for clients": {by: root, change: func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, cause: tlsfile.Usage,
			text: "has a certificate that is not valid for servers"},
		"client certificate required": {by: root, server: func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }, cause: tlsfile.ClientCertificate,
			text: "refuses the client certificate or requires one: tls: certificate required"},
		"TLS 1.1": {by: root, server: func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, cause: tlsfile.Version,
			text: "has no TLS version in common"},
		"ALPN": {by: root, server: func(c *tls.Config) { c.NextProtos = []string{"mqtt"} },
			client: func(c *tls.Config) { c.NextProtos = []string{"x-amzn-mqtt-ca"} }, cause: tlsfile.ALPN,
			text: "has no ALPN protocol in common"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			made := issue(t, c.by, "broker", c.change)
			conf := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{made.cert.Raw}, PrivateKey: made.key}}}
			if c.server != nil {
				c.server(conf)
			}
			address := peers.Serve(t, func(raw net.Conn) {
				conn := tls.Server(raw, conf)
				_ = conn.Handshake()
				_, _ = io.Copy(io.Discard, raw)
			})
			login := dial.Login{TLS: &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}}
			if c.client != nil {
				c.client(login.TLS)
			}
			err := Reach(t.Context(), Options{
				Servers: []dial.Server{{Address: address, TLS: true}}, ClientID: "bridge-0",
				Login: func() (dial.Login, error) { return login, nil },
			})
			var problem *dial.Problem
			require.ErrorAs(t, err, &problem)
			require.Equal(t, dial.Cause(c.cause), problem.Cause, "%v", err)
			require.ErrorContains(t, err, "broker at mqtts://"+address+" "+c.text)
		})
	}
}
