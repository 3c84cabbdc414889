package deploytest

import (
	"crypto/tls"
	"crypto/x509"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/stretchr/testify/require"
)

// contents maps each file below dir to its content.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, dir+"/")] = string(b)
		return err
	}))
	return files
}

// leaf loads a certificate and its key, which must belong together.
func leaf(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	base := filepath.Join(dir, "deploy/certs", name)
	pair, err := tls.LoadX509KeyPair(base+".pem", base+".key")
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	require.NoError(t, err)
	return cert
}

func caPool(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "deploy/certs/ca.pem"))
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(b))
	return pool
}

func TestMakeCerts(t *testing.T) {
	t.Parallel()
	t.Run("subject and chain of certificates are correct", testSubjectAndChainOfCertificatesAreCorrect)
	t.Run("second run keeps existing files", testSecondRunKeepsExistingFiles)
	t.Run("-f replaces certificates and passwords", testFReplacesCertificatesAndPasswords)
	t.Run("certificates without CA are not overwritten", testCertificatesWithoutCAAreNotOverwritten)
	t.Run("passwords are random and private", testPasswordsAreRandomAndPrivate)
}

func testSubjectAndChainOfCertificatesAreCorrect(t *testing.T) {
	t.Parallel()
	dir := stage(t)
	out, err := makeCerts(t, dir, "initech/pump.7")
	require.NoError(t, err, out)
	pool := caPool(t, dir)

	for _, name := range []string{"emqx", "localhost", "127.0.0.1", "::1"} {
		_, err := leaf(t, dir, "server").Verify(x509.VerifyOptions{
			Roots: pool, DNSName: name, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		require.NoError(t, err, name)
	}
	for file, cn := range map[string]string{
		"acme_dev-1":     "acme/dev-1",
		"acme_dev-2":     "acme/dev-2",
		"globex_dev-1":   "globex/dev-1",
		"initech_pump.7": "initech/pump.7",
	} {
		cert := leaf(t, dir, "devices/"+file)
		require.Equal(t, cn, cert.Subject.CommonName)
		_, err := cert.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		require.NoError(t, err, cn)
		_, err = cert.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
		require.Error(t, err, "a device must not be able to pose as the broker")
	}
}

func testSecondRunKeepsExistingFiles(t *testing.T) {
	t.Parallel()
	dir := stage(t)
	out, err := makeCerts(t, dir)
	require.NoError(t, err, out)
	first := contents(t, dir)

	out, err = makeCerts(t, dir)
	require.NoError(t, err, out)
	require.Equal(t, first, contents(t, dir))

	out, err = makeCerts(t, dir, "acme/dev-3")
	require.NoError(t, err, out)
	require.Equal(t, "acme/dev-3", leaf(t, dir, "devices/acme_dev-3").Subject.CommonName)
	for path, content := range first {
		require.Equal(t, content, contents(t, dir)[path], path)
	}
}

func testFReplacesCertificatesAndPasswords(t *testing.T) {
	t.Parallel()
	dir := stage(t)
	out, err := makeCerts(t, dir)
	require.NoError(t, err, out)
	first := contents(t, dir)

	out, err = makeCerts(t, dir, "-f")
	require.NoError(t, err, out)
	second := contents(t, dir)
	require.Len(t, second, len(first))
	for path, content := range first {
		if strings.HasPrefix(path, "deploy/certs/") || strings.HasPrefix(path, "deploy/secrets/") || path == ".env" {
			require.NotEqual(t, content, second[path], path)
		} else {
			require.Equal(t, content, second[path], path)
		}
	}
	_, err = leaf(t, dir, "devices/acme_dev-1").Verify(x509.VerifyOptions{
		Roots: caPool(t, dir), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	require.NoError(t, err)
}

func testCertificatesWithoutCAAreNotOverwritten(t *testing.T) {
	t.Parallel()
	dir := stage(t)
	out, err := makeCerts(t, dir)
	require.NoError(t, err, out)
	require.NoError(t, os.Remove(filepath.Join(dir, "deploy/certs/ca.pem")))
	before := contents(t, dir)

	out, err = makeCerts(t, dir)
	require.Error(t, err)
	require.Contains(t, out, "-f")
	require.Equal(t, before, contents(t, dir))
}

func TestMakeCertsMalformedName(t *testing.T) {
	t.Parallel()
	for _, cn := range []string{"acme", "acme/", "/dev", "a/b/c", "acme/+", "acme/#", "../x/y", "acme/dev 1", ""} {
		t.Run(cn, func(t *testing.T) {
			t.Parallel()
			dir := stage(t)
			out, err := makeCerts(t, dir, cn)
			require.Error(t, err)
			require.Contains(t, out, "TENANT/DEVICE")
			require.NoDirExists(t, filepath.Join(dir, "deploy/certs"))
		})
	}
}

func testPasswordsAreRandomAndPrivate(t *testing.T) {
	t.Parallel()
	dir := stage(t)
	out, err := makeCerts(t, dir)
	require.NoError(t, err, out)
	env, err := dotenv.Read(filepath.Join(dir, ".env"))
	require.NoError(t, err)

	secret := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, "deploy/secrets", name))
		require.NoError(t, err)
		return string(b)
	}
	seen := map[string]string{}
	for name, variable := range map[string]string{
		"mqtt_bridge": "", "nats_bridge": "NATS_BRIDGE_PASSWORD", "nats_ingest": "NATS_INGEST_PASSWORD",
		"nats_operator": "NATS_OPERATOR_PASSWORD", "emqx_dashboard": "EMQX_DASHBOARD_PASSWORD", "emqx_cookie": "EMQX_NODE_COOKIE",
		"emqx_api_bridge": "", "emqx_api_gate": "",
	} {
		password := secret(name + ".txt")
		// The password begins with a letter: nats-server would read 123e4 as a number. It has no
		// newline: not every reader of a password file removes one.
		require.Regexp(t, `^[a-z][0-9a-f]{40}$`, password, name)
		require.Empty(t, seen[password], "%s has another's password", name)
		seen[password] = name
		require.NotContains(t, out, password, "the script must not print passwords")
		if variable != "" {
			require.Equal(t, password, env[variable], variable)
		}
	}
	require.Equal(t, "user_id,password,is_superuser\nbridge,"+secret("mqtt_bridge.txt")+",false\n", secret("users.csv"))

	for path, mode := range map[string]fs.FileMode{
		".env": 0o600, "deploy/certs/ca.key": 0o600, "deploy/certs": 0o700, "deploy/certs/devices": 0o700, "deploy/secrets": 0o700,
	} {
		info, err := os.Stat(filepath.Join(dir, path))
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm(), path)
	}
}

func TestSecretsIgnoreFiles(t *testing.T) {
	t.Parallel()
	require.Contains(t, strings.Fields(read(t, ".gitignore")), "/.env")
	ignored := strings.Fields(read(t, "deploy/.gitignore"))
	require.Contains(t, ignored, "/certs/")
	require.Contains(t, ignored, "/secrets/")
	context := strings.Fields(read(t, ".dockerignore"))
	require.Contains(t, context, ".env")
	require.Contains(t, context, "deploy")
}
