package account

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/jetstream/conn"
)

// TestOptions checks that the options do not copy a file's content: it is read at each connect.
func TestOptions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("s3cret"), 0o600))
	load := func(env ...string) conn.Options {
		c, err := config.Load(config.Sources{Env: env})
		require.NoError(t, err)
		return Options(c.NATS.Account, "x")
	}
	o := load("BRIDGE_NATS_USER=u", "BRIDGE_NATS_PASSWORD_FILE="+secret, "BRIDGE_NATS_DOMAIN=hub", "BRIDGE_NATS_TLS_HANDSHAKE_FIRST=true")
	require.Equal(t, secret, o.PasswordFile)
	require.Empty(t, o.Password)
	require.Equal(t, "hub", o.Domain)
	require.True(t, o.TLSFiles.HandshakeFirst)
	o = load("BRIDGE_NATS_TOKEN_FILE=" + secret)
	require.Equal(t, secret, o.TokenFile)
	require.Empty(t, o.Token)
	require.Equal(t, "p", load("BRIDGE_NATS_USER=u", "BRIDGE_NATS_PASSWORD=p").Password)
	require.Equal(t, "t", load("BRIDGE_NATS_TOKEN=t").Token)
}
