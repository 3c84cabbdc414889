package tlsfile

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// certificate returns a self-signed certificate as PEM.
func certificate(t *testing.T, notAfter time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: notAfter.Add(-time.Hour), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	early, late := time.Unix(1_900_000_000, 0), time.Unix(2_000_000_000, 0)
	f := Files{Cert: filepath.Join(t.TempDir(), "client.crt"), Key: "never read"}
	write := func(content ...[]byte) {
		var all []byte
		for _, c := range content {
			all = append(all, c...)
		}
		require.NoError(t, os.WriteFile(f.Cert, all, 0o600))
	}
	expires := func(want time.Time) {
		t.Helper()
		at, err := f.Expiry()
		require.NoError(t, err)
		require.True(t, want.Equal(at), at)
	}
	write(certificate(t, late))
	expires(late)
	write(certificate(t, late), certificate(t, early)) // an intermediate that expires first
	expires(early)

	write([]byte("no PEM"))
	_, err := f.Expiry()
	require.ErrorContains(t, err, f.Cert+": the file contains no PEM certificate")
	require.NoError(t, os.Remove(f.Cert))
	_, err = f.Expiry()
	require.ErrorIs(t, err, os.ErrNotExist)

	none, err := Files{}.Expiry()
	require.NoError(t, err)
	require.True(t, none.IsZero())

	block, _ := pem.Decode(certificate(t, late))
	at, err := ConfigExpiry(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{block.Bytes}}}})
	require.NoError(t, err)
	require.True(t, late.Equal(at))
	for _, without := range []*tls.Config{nil, {}} {
		none, err = ConfigExpiry(without)
		require.NoError(t, err)
		require.True(t, none.IsZero())
	}
}
