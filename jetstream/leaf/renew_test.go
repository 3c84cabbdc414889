package leaf_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/internal/tlsfile"
	"mqtt-nats-bridge/jetstream/conn"
)

// TestLeafRenew changes the credentials that the hub requires, then the files. The link must be
// restored.
func TestLeafRenew(t *testing.T) {
	t.Parallel()
	t.Run("password", func(t *testing.T) {
		t.Parallel()
		file := natstest.WriteFile(t, filepath.Join(t.TempDir(), "password"), []byte("old"))
		with := func(password string) func(*natsd.Options) {
			return func(o *natsd.Options) { o.LeafNode.Username, o.LeafNode.Password = "site", password }
		}
		testLeafRenew(t, conn.Options{User: "site", PasswordFile: file}, "nats-leaf", with("old"), with("new"), func() {
			require.NoError(t, os.WriteFile(file, []byte("new"), 0o600))
		})
	})
	t.Run("nkey", func(t *testing.T) {
		t.Parallel()
		oldKey, oldSeed := natstest.NewUser(t)
		newKey, newSeed := natstest.NewUser(t)
		file := natstest.WriteFile(t, filepath.Join(t.TempDir(), "site.nk"), oldSeed)
		with := func(key interface{ PublicKey() (string, error) }) func(*natsd.Options) {
			public, err := key.PublicKey()
			require.NoError(t, err)
			return func(o *natsd.Options) { o.LeafNode.Nkey = public }
		}
		testLeafRenew(t, conn.Options{NKeySeedFile: file}, "nats-leaf", with(oldKey), with(newKey), func() {
			require.NoError(t, os.WriteFile(file, newSeed, 0o600))
		})
	})
	t.Run("ca", func(t *testing.T) {
		t.Parallel()
		oldCA, newCA := natstest.NewCA(t, "ca"), natstest.NewCA(t, "ca")
		copied := func(from string) []byte {
			content, err := os.ReadFile(from)
			require.NoError(t, err)
			return content
		}
		file := natstest.WriteFile(t, filepath.Join(t.TempDir(), "ca.crt"), copied(oldCA.File))
		with := func(ca *natstest.CA) func(*natsd.Options) {
			cert, key := ca.Issue(t, "hub")
			pair, err := tls.LoadX509KeyPair(cert, key)
			require.NoError(t, err)
			return func(o *natsd.Options) {
				o.LeafNode.TLSConfig, o.LeafNode.TLSTimeout = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, 5
			}
		}
		testLeafRenew(t, conn.Options{TLSFiles: conn.TLSFiles{Files: tlsfile.Files{CA: file}}}, "tls", with(oldCA), with(newCA), func() {
			require.NoError(t, os.WriteFile(file, copied(newCA.File), 0o600))
		})
	})
}

func testLeafRenew(t *testing.T, hub conn.Options, scheme string, before, after func(*natsd.Options), rotate func()) {
	t.Helper()
	server, ports := startHub(t, t.TempDir(), [2]int{}, before)
	o := leafOptions(t, strings.Replace(leafURL(ports), "nats-leaf", scheme, 1), "site")
	o.Hub = hub
	l := startLeaf(t, o)
	awaitLink(t, l)
	server.Close()
	startHub(t, t.TempDir(), ports, after)
	require.Eventually(t, func() bool {
		up, problem := l.Link()
		require.NoError(t, l.Renew(), "nothing has changed")
		return !up && problem != ""
	}, testrun.Timeout, 10*time.Millisecond)
	rotate()
	require.Eventually(t, func() bool {
		if up, _ := l.Link(); up {
			return true
		}
		require.NoError(t, l.Renew())
		return false
	}, testrun.Timeout, 50*time.Millisecond)
}
