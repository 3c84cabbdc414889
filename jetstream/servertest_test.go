package jetstream_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/jetstream"
)

// patience bounds every wait of these tests; it is spent only by a test that
// fails.
const patience = 20 * time.Second

// boot starts a server that ends with the test.
func boot(t *testing.T, configure func(*natsd.Options)) *jetstream.Server {
	t.Helper()
	s, err := jetstream.StartServer(jetstream.ServerOptions{StoreDir: t.TempDir(), Configure: configure})
	require.NoError(t, err)
	t.Cleanup(s.Shutdown)
	return s
}

// api is JetStream's API on a fresh connection.
func api(t *testing.T, s *jetstream.Server) natsjs.JetStream {
	t.Helper()
	nc, err := jetstream.Connect(jetstream.ConnectOptions{URL: s.URL(), Name: t.Name()})
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	return js
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// receive takes one value or fails the test.
func receive[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		require.FailNow(t, "nothing came", what)
	}
	panic("unreachable")
}

// authority signs certificates and writes them as PEM files.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	a := &authority{cert: cert, key: key}
	a.file = a.write(t, name+".crt", "CERTIFICATE", der)
	return a
}

// issue returns the files of a certificate for 127.0.0.1, good for both ends.
func (a *authority) issue(t *testing.T, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return a.write(t, name+".crt", "CERTIFICATE", der), a.write(t, name+".key", "PRIVATE KEY", pkcs8)
}

func (a *authority) write(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	// A directory of its own: parallel tests issue under one name.
	return write(t, filepath.Join(t.TempDir(), name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func write(t *testing.T, path string, content []byte) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

// serverTLS makes a server speak TLS, and demand a client's certificate where
// mutual.
func (a *authority) serverTLS(t *testing.T, mutual bool) func(*natsd.Options) {
	t.Helper()
	cert, key := a.issue(t, "nats.test")
	pair, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(t, err)
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if mutual {
		config.ClientCAs = x509.NewCertPool()
		config.ClientCAs.AddCert(a.cert)
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return func(o *natsd.Options) {
		o.TLS, o.TLSVerify, o.TLSConfig, o.TLSTimeout = true, mutual, config, 5
	}
}

// requireStored publishes and waits for the PubAck: the connection can do what
// the bridge needs.
func requireStored(t *testing.T, o jetstream.ConnectOptions) {
	t.Helper()
	up := make(chan struct{}, 1)
	failed := make(chan jetstream.ConnectProblem, 10)
	o.Hooks.Connected = func(*nats.Conn) { up <- struct{}{} }
	o.Hooks.ConnectFailed = func(p jetstream.ConnectProblem) { failed <- p }
	nc, err := jetstream.Connect(o)
	require.NoError(t, err)
	defer nc.Close()
	select {
	case <-up:
	case p := <-failed:
		require.NoError(t, p)
	}
	js, err := o.JetStream(nc)
	require.NoError(t, err)
	ctx := within(t)
	_, err = js.CreateOrUpdateStream(ctx, natsjs.StreamConfig{Name: "T", Subjects: []string{"t"}, Storage: natsjs.MemoryStorage})
	require.NoError(t, err)
	_, err = js.Publish(ctx, "t", nil)
	require.NoError(t, err)
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}
