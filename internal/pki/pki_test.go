package pki_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/pki"
)

// handshake runs one TLS handshake over a pipe and returns what each end said.
func handshake(t *testing.T, server, client *tls.Config) (cn string, serverErr, clientErr error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	failed := make(chan error, 1)
	client = client.Clone()
	client.ServerName = "localhost"
	go func() {
		c := tls.Client(b, client)
		err := c.Handshake()
		if err == nil {
			// TLS 1.3: a refusal of the client's certificate comes after its
			// handshake, so read what the server says.
			_, err = c.Read(make([]byte, 1))
		}
		failed <- err
	}()
	s := tls.Server(a, server)
	serverErr = s.Handshake()
	if serverErr == nil {
		cn = s.ConnectionState().PeerCertificates[0].Subject.CommonName
		_, _ = s.Write([]byte{1})
	}
	_ = a.Close()
	return cn, serverErr, <-failed
}

func TestServerCommonName(t *testing.T) {
	t.Parallel()
	ca, err := pki.New()
	require.NoError(t, err)
	server, err := ca.ServerConfig()
	require.NoError(t, err)
	for _, cn := range []string{"acme/dev-1", "acme/+", "acme/#", "a/b/c", "", "größe/λ", "dev-2"} {
		t.Run(cn, func(t *testing.T) {
			t.Parallel()
			client, err := ca.ClientConfig(cn)
			require.NoError(t, err)
			got, serverErr, clientErr := handshake(t, server, client)
			require.NoError(t, serverErr)
			require.NoError(t, clientErr)
			require.Equal(t, cn, got)
		})
	}
}

func TestCA(t *testing.T) {
	t.Parallel()
	t.Run("foreign certificates are refused", testForeignCertificatesAreRefused)
	t.Run("written files can be loaded", testWrittenFilesCanBeLoaded)
	t.Run("unwritable directory is reported", testUnwritableDirectoryIsReported)
}

func testForeignCertificatesAreRefused(t *testing.T) {
	t.Parallel()
	ca, err := pki.New()
	require.NoError(t, err)
	other, err := pki.New()
	require.NoError(t, err)
	server, err := ca.ServerConfig()
	require.NoError(t, err)

	stranger, err := other.ClientConfig("acme/dev-1")
	require.NoError(t, err)
	stranger.RootCAs = ca.Pool()
	_, serverErr, _ := handshake(t, server, stranger)
	require.Error(t, serverErr, "certificate of another authority")

	_, serverErr, _ = handshake(t, server, &tls.Config{RootCAs: ca.Pool()})
	require.Error(t, serverErr, "no certificate")
}

func testWrittenFilesCanBeLoaded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, err := pki.New()
	require.NoError(t, err)
	cert, err := ca.Device("acme/dev-1")
	require.NoError(t, err)

	caFile, err := ca.WriteCA(dir)
	require.NoError(t, err)
	files, err := pki.Write(dir, "device", cert)
	require.NoError(t, err)

	loaded, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	require.NoError(t, err)
	require.Equal(t, cert.Certificate, loaded.Certificate)
	data, err := os.ReadFile(caFile)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(data))
	_, err = cert.Leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	require.NoError(t, err)

	info, err := os.Stat(files.Key)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func testUnwritableDirectoryIsReported(t *testing.T) {
	t.Parallel()
	ca, err := pki.New()
	require.NoError(t, err)
	_, err = ca.WriteCA(t.TempDir() + "/missing")
	require.ErrorContains(t, err, "write ca.pem")
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := pki.New()
	require.NoError(t, err)
	files, err := first.WriteFiles(dir)
	require.NoError(t, err)

	ca, err := pki.Load(files.Cert, files.Key)
	require.NoError(t, err)
	cert, err := ca.Device("acme/dev-1")
	require.NoError(t, err)
	_, err = cert.Leaf.Verify(x509.VerifyOptions{Roots: first.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	require.NoError(t, err)

	leaf, err := pki.Write(dir, "leaf", cert)
	require.NoError(t, err)
	_, err = pki.Load(leaf.Cert, leaf.Key)
	require.ErrorContains(t, err, "is not the certificate of a CA")
	_, err = pki.LoadPool(files.Key)
	require.ErrorContains(t, err, "contains no certificate")
}
