package registry

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

// slow contains the delays of a server's answers.
type slow struct{ connect, listen time.Duration }

// serve serves one connection as PostgreSQL does.
func (s slow) serve(c net.Conn) {
	defer c.Close()
	b := pgproto3.NewBackend(c, c)
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return
	}
	time.Sleep(s.connect)
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for b.Flush() == nil {
		m, err := b.Receive()
		if _, query := m.(*pgproto3.Query); err != nil || !query {
			return
		}
		time.Sleep(s.listen)
		b.Send(&pgproto3.CommandComplete{CommandTag: []byte("LISTEN")})
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	}
}

func TestConnectTimeout(t *testing.T) {
	t.Parallel()
	const silent = time.Hour
	for _, c := range []struct {
		name, query   string
		first, second slow
		want          string
	}{
		{"10 s by default", "", slow{connect: 11 * time.Second}, slow{connect: 11 * time.Second}, "connect to the database"},
		{"longer than the default", "&connect_timeout=60", slow{connect: 50 * time.Second}, slow{connect: silent}, ""},
		{"applies to each address", "&connect_timeout=60", slow{connect: silent}, slow{connect: 50 * time.Second, listen: 9 * time.Second}, ""},
		{"does not apply to LISTEN", "&connect_timeout=60", slow{listen: 11 * time.Second}, slow{}, "listen for changes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				config, err := connConfig("postgres://bridge@10.0.0.1:5432,10.0.0.2:5432/db?sslmode=disable" + c.query)
				require.NoError(t, err)
				config.DialFunc = func(_ context.Context, _, address string) (net.Conn, error) {
					client, server := net.Pipe()
					go map[string]slow{"10.0.0.1:5432": c.first, "10.0.0.2:5432": c.second}[address].serve(server)
					return client, nil
				}
				db, err := connect(t.Context(), config)
				if c.want != "" {
					require.ErrorContains(t, err, c.want)
					require.ErrorIs(t, err, context.DeadlineExceeded)
				} else {
					require.NoError(t, err)
					disconnect(t.Context(), db)
				}
				time.Sleep(silent) // virtual: every server ends
			})
		})
	}
}
