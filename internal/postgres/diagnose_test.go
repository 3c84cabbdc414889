package postgres_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/postgres"
)

// says writes a text once the client has said something, and waits for its end.
func says(text string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = c.Read(make([]byte, 8))
		_, _ = io.WriteString(c, text)
		_, _ = io.Copy(io.Discard, c)
	}
}

func TestDiagnose(t *testing.T) {
	t.Parallel()
	const closes = "closes the connection without answering"
	for name, c := range map[string]struct {
		server  func(net.Conn)
		sslmode string
		says    string
	}{
		"a NATS port":           {says("INFO {}\r\n"), "disable", "does not speak PostgreSQL's protocol"},
		"an HTTP port":          {says("HTTP/1.1 400 Bad Request\r\n\r\n"), "disable", "does not speak PostgreSQL's protocol"},
		"an MQTT port":          {func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }, "disable", closes},
		"a TLS port":            {func(c net.Conn) { _ = tls.Server(c, &tls.Config{}).Handshake() }, "disable", closes},
		"a TLS port, TLS":       {func(c net.Conn) { _ = tls.Server(c, &tls.Config{}).Handshake() }, "require", closes},
		"no TLS":                {says("N"), "require", "does not offer TLS"},
		"a port that is silent": {says(""), "disable", "accepts the connection but does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := time.Minute
			if strings.Contains(name, "silent") {
				timeout = time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			_, err := pgconn.Connect(ctx, fmt.Sprintf("postgres://u:p@%s/x?sslmode=%s", peers.Serve(t, c.server), c.sslmode))
			require.Error(t, err)
			problem, advice := postgres.Diagnose(err, "database.url")
			require.Contains(t, problem, c.says, "%v", err)
			require.NotEmpty(t, advice)
		})
	}
	t.Run("a CA that is not trusted", func(t *testing.T) {
		t.Parallel()
		certificate := selfSigned(t)
		addr := peers.Serve(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 8))
			_, _ = io.WriteString(c, "S")
			_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{certificate}}).Handshake()
		})
		other := filepath.Join(t.TempDir(), "other.pem")
		require.NoError(t, os.WriteFile(other, pemOf(selfSigned(t).Certificate[0]), 0o600))
		_, err := pgconn.Connect(t.Context(), "postgres://u:p@"+addr+"/x?sslmode=verify-ca&sslrootcert="+other)
		var unknown x509.UnknownAuthorityError
		require.ErrorAs(t, err, &unknown)
		problem, advice := postgres.Diagnose(err, "database.url")
		require.Contains(t, problem, "is not trusted here")
		require.Contains(t, advice, "sslrootcert")
	})
	t.Run("nothing listens", func(t *testing.T) {
		t.Parallel()
		_, err := pgconn.Connect(t.Context(), "postgres://u:p@127.0.0.1:1/x")
		require.Error(t, err)
		problem, _ := postgres.Diagnose(err, "database.url")
		require.Empty(t, problem)
	})
}
