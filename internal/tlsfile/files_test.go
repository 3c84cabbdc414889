package tlsfile

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The keys are one key, encrypted by OpenSSL 3 with the passphrase "correct-horse":
//
//	openssl pkcs8 -topk8 -in key.pem -out pkcs8-aes256-sha256.pem
//	openssl ec -aes256 -in key.pem -out traditional-aes256.pem

func passphrase(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "passphrase")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

func TestEncryptedKey(t *testing.T) {
	t.Parallel()
	right, wrong := passphrase(t, "correct-horse\n"), passphrase(t, "wrong")
	for _, name := range []string{"pkcs8-aes256-sha256", "pkcs8-aes128-sha1", "pkcs8-des3-sha512", "traditional-aes256"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := Files{Cert: "testdata/client.crt", Key: "testdata/" + name + ".pem"}
			_, err := f.Certificate()
			require.ErrorIs(t, err, ErrEncryptedKey)
			require.ErrorContains(t, err, name)

			f.PassphraseFile = right
			pair, err := f.Certificate()
			require.NoError(t, err)
			require.NotNil(t, pair.PrivateKey)

			f.PassphraseFile = wrong
			_, err = f.Certificate()
			require.ErrorIs(t, err, ErrPassphrase)
			require.ErrorContains(t, err, name)

			f.PassphraseFile = filepath.Join(t.TempDir(), "none")
			_, err = f.Certificate()
			require.ErrorIs(t, err, os.ErrNotExist)
			require.ErrorContains(t, err, "read passphrase "+f.PassphraseFile)
		})
	}
	t.Run("unsupported", func(t *testing.T) {
		t.Parallel()
		_, err := Files{Cert: "testdata/client.crt", Key: "testdata/pkcs8-scrypt.pem", PassphraseFile: right}.Certificate()
		require.ErrorContains(t, err, "is not supported: convert it with `openssl pkcs8")
	})
}

func TestConfigReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := Files{CA: filepath.Join(dir, "ca.crt"), Cert: "testdata/client.crt", Key: filepath.Join(dir, "key.pem"), PassphraseFile: passphrase(t, "correct-horse")}
	copyTo(t, "testdata/client.crt", f.CA)
	copyTo(t, "testdata/pkcs8-aes256-sha256.pem", f.Key)
	conf, err := f.Config("nats.test")
	require.NoError(t, err)
	require.NotNil(t, conf.RootCAs)
	require.Equal(t, "nats.test", conf.ServerName)

	copyTo(t, "testdata/traditional-aes256.pem", f.Key)
	pair, err := conf.GetClientCertificate(&tls.CertificateRequestInfo{})
	require.NoError(t, err)
	require.NotEmpty(t, pair.Certificate)

	require.NoError(t, os.WriteFile(f.CA, []byte("no PEM"), 0o600))
	_, err = f.Config("")
	require.ErrorContains(t, err, f.CA+": the file contains no PEM certificate")
	require.NoError(t, os.Remove(f.Key))
	_, err = conf.GetClientCertificate(&tls.CertificateRequestInfo{})
	require.ErrorIs(t, err, os.ErrNotExist, "no connection without the certificate")
}

func copyTo(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, content, 0o600))
}

func FuzzDecryptPKCS8(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x30, 0x00})
	f.Fuzz(func(_ *testing.T, der []byte) {
		_, _ = decryptPKCS8(der, []byte("passphrase"))
	})
}
