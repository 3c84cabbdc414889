package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// certificates writes ca.crt, a pair bridge.crt and bridge.key that is its own CA, and an unrelated
// other.key.
func certificates(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bridge"}, DNSNames: []string{"localhost"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	writePEM(t, filepath.Join(dir, "ca.crt"), "CERTIFICATE", cert)
	writePEM(t, filepath.Join(dir, "bridge.crt"), "CERTIFICATE", cert)
	writeKey(t, filepath.Join(dir, "bridge.key"), key)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	writeKey(t, filepath.Join(dir, "other.key"), other)
}

func writeKey(t *testing.T, name string, key *ecdsa.PrivateKey) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	writePEM(t, name, "PRIVATE KEY", der)
}

func writePEM(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

func TestTLSConfigurationOfTheBroker(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificates(t, dir)

	conf, err := load(t, "mqtt: {url: mqtt://emqx}").MQTT.TLSConfig()
	require.NoError(t, err)
	require.Nil(t, conf, "plain text")

	conf, err = load(t, "mqtt: {url: mqtts://emqx}").MQTT.TLSConfig()
	require.NoError(t, err)
	require.Empty(t, conf.ServerName, "the host that is dialled")
	require.Nil(t, conf.RootCAs, "the system's")
	require.Equal(t, uint16(tls.VersionTLS12), conf.MinVersion)

	c := load(t, "mqtt: {url: mqtts://emqx, tls: {ca: "+dir+"/ca.crt, cert: "+dir+"/bridge.crt, key: "+dir+"/bridge.key, server_name: other}}")
	conf, err = c.MQTT.TLSConfig()
	require.NoError(t, err)
	require.Equal(t, "other", conf.ServerName)
	require.NotNil(t, conf.RootCAs)
	pair, err := conf.GetClientCertificate(nil)
	require.NoError(t, err)
	require.NotEmpty(t, pair.Certificate)

	require.NoError(t, os.Remove(filepath.Join(dir, "bridge.key")))
	_, err = conf.GetClientCertificate(nil)
	require.ErrorContains(t, err, "bridge.key", "a file gone later is an error, not a connection without certificate")
	_, err = c.MQTT.TLSConfig()
	require.ErrorContains(t, err, "bridge.key")
}

func TestCertificateErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificates(t, dir)
	for block, want := range map[string]string{
		"ca: " + dir + "/none":                                     "nats.tls.ca: the file",
		"cert: " + dir + "/bridge.crt":                             "nats.tls.cert: is given without its key",
		"key: " + dir + "/bridge.key":                              "nats.tls.key: is given without its certificate",
		"cert: " + dir + "/bridge.crt, key: " + dir + "/other.key": "private key does not match public key",
		"ca: " + dir + "/bridge.key":                               "the file contains no PEM certificate",
	} {
		got := errorsOf(t, Sources{File: write(t, "bridge.yaml", "nats: {tls: {"+block+"}}")})
		require.Len(t, got, 1, block)
		require.Contains(t, got[0], want)
	}
}

func TestEncryptedKey(t *testing.T) {
	t.Parallel()
	const files = "../tlsfile/testdata/"
	right, wrong := write(t, "right", "correct-horse\n"), write(t, "wrong", "guess")
	for _, block := range []string{"nats", "mqtt"} {
		file := func(more string) Sources {
			return Sources{Env: []string{"MQTT_URL=mqtts://emqx"}, File: write(t, "bridge.yaml", block+": {tls: {cert: "+files+"client.crt, key: "+files+"pkcs8-aes256-sha256.pem"+more+"}}")}
		}
		got := errorsOf(t, file(""))
		require.Contains(t, strings.Join(got, "\n"), block+".tls.key: read key "+files+"pkcs8-aes256-sha256.pem: the private key is encrypted, and no passphrase is given; name a file that contains the passphrase in "+block+".tls.passphrase_file")
		got = errorsOf(t, file(", passphrase_file: "+wrong))
		require.Contains(t, strings.Join(got, "\n"), block+".tls.passphrase_file: read key "+files+"pkcs8-aes256-sha256.pem with the passphrase in "+wrong+": the passphrase of the private key is wrong")
	}
	c := load(t, "mqtt: {url: mqtts://emqx, tls: {cert: "+files+"client.crt, key: "+files+"pkcs8-aes256-sha256.pem, passphrase_file: "+right+"}}")
	conf, err := c.MQTT.TLSConfig()
	require.NoError(t, err)
	pair, err := conf.GetClientCertificate(nil)
	require.NoError(t, err)
	require.NotNil(t, pair.PrivateKey)

	got := errorsOf(t, Sources{File: write(t, "bridge.yaml", "nats: {tls: {passphrase_file: "+right+"}}")})
	require.Len(t, got, 1)
	require.Contains(t, got[0], "nats.tls.passphrase_file: is given without a key")
}
