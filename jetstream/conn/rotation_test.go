package conn_test

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/internal/tlsfile"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/embedded"
)

// rotation is a credential that changes at the server, then in the client's file.
type rotation struct {
	before, after func(*natsd.Options) // the server's options
	options       conn.Options
	rotate        func()
	cause         conn.Cause // between the two changes
}

// rotations contains one rotation for each kind of credential.
func rotations(t *testing.T) map[string]rotation {
	t.Helper()
	file := func(name, content string) string {
		return natstest.WriteFile(t, filepath.Join(t.TempDir(), name), []byte(content))
	}
	replace := func(name, from string) func() {
		return func() {
			content, err := os.ReadFile(from)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(name, content, 0o600))
		}
	}
	all := map[string]rotation{}

	password := file("password", "old\n")
	all["password"] = rotation{
		withUser("bridge", "old"), withUser("bridge", "new"),
		conn.Options{User: "bridge", PasswordFile: password},
		replace(password, file("new", "new\n")), conn.CauseCredentials,
	}
	token := file("token", "old\n")
	withToken := func(text string) func(*natsd.Options) {
		return func(o *natsd.Options) { o.Authorization = text }
	}
	all["token"] = rotation{
		withToken("old"), withToken("new"), conn.Options{TokenFile: token},
		replace(token, file("new", "new\n")), conn.CauseCredentials,
	}
	oldKey, oldSeed := natstest.NewUser(t)
	newKey, newSeed := natstest.NewUser(t)
	nkey := file("user.nk", string(oldSeed))
	withNKey := func(key interface{ PublicKey() (string, error) }) func(*natsd.Options) {
		public, err := key.PublicKey()
		require.NoError(t, err)
		return func(o *natsd.Options) { o.Nkeys = []*natsd.NkeyUser{{Nkey: public}} }
	}
	all["nkey"] = rotation{
		withNKey(oldKey), withNKey(newKey), conn.Options{NKeySeedFile: nkey},
		replace(nkey, file("new.nk", string(newSeed))), conn.CauseCredentials,
	}
	oldServer, oldCreds := natstest.OperatorMode(t)
	newServer, newCreds := natstest.OperatorMode(t)
	all["creds"] = rotation{oldServer, newServer, conn.Options{Creds: oldCreds}, replace(oldCreds, newCreds), conn.CauseCredentials}

	dir, secret := t.TempDir(), file("secret", "old")
	content, err := json.Marshal(map[string]any{"user": "bridge", "password": "file://" + secret})
	require.NoError(t, err)
	natstest.WriteFile(t, filepath.Join(dir, "prod.json"), content)
	all["context"] = rotation{
		withUser("bridge", "old"), withUser("bridge", "new"),
		conn.Options{Context: "prod", ContextDir: dir},
		replace(secret, file("new", "new")), conn.CauseCredentials,
	}

	oldCA, newCA := natstest.NewCA(t, "ca"), natstest.NewCA(t, "ca")
	trusted := file("ca.crt", "")
	replace(trusted, oldCA.File)()
	all["ca"] = rotation{
		oldCA.ServerTLS(t, false), newCA.ServerTLS(t, false),
		conn.Options{TLSFiles: conn.TLSFiles{Files: tlsfile.Files{CA: trusted}}},
		replace(trusted, newCA.File), conn.CauseAuthority,
	}
	// The server's certificate stays; clients of another CA are accepted.
	cert, key := oldCA.Issue(t, "bridge")
	newCert, newKeyFile := newCA.Issue(t, "bridge")
	serverTLS := oldCA.ServerTLS(t, true)
	all["client certificate"] = rotation{
		serverTLS,
		func(o *natsd.Options) {
			serverTLS(o)
			o.TLSConfig = o.TLSConfig.Clone()
			o.TLSConfig.ClientCAs = newCA.Pool()
		},
		conn.Options{TLSFiles: conn.TLSFiles{Files: tlsfile.Files{CA: oldCA.File, Cert: cert, Key: key}}},
		func() { replace(cert, newCert)(); replace(key, newKeyFile)() }, conn.CauseClientCert,
	}
	return all
}

// otherDialer is a dialer supplied by the caller, such as a publisher's.
type otherDialer struct{ net.Dialer }

func TestCredentialRotation(t *testing.T) {
	t.Parallel()
	for kind, extra := range map[string][]nats.Option{"own dialer": nil, "another dialer": {nats.SetCustomDialer(&otherDialer{})}} {
		for name, r := range rotations(t) {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				server := natstest.StartServer(t, r.before)
				o := r.options
				o.URL = server.URL()
				problems := make(chan conn.Problem, 100)
				up := make(chan struct{}, 10)
				o.Hooks = conn.Hooks{
					ConnectFailed: func(p conn.Problem) { problems <- p },
					Connected:     func(*nats.Conn) { up <- struct{}{} },
					Reconnected:   func(*nats.Conn) { up <- struct{}{} },
				}
				nc, err := conn.Connect(o, extra...)
				require.NoError(t, err)
				defer nc.Close()
				natstest.Receive(t, "the connection", up)
				server.Close()
				next, err := embedded.Open(embedded.Options{StoreDir: t.TempDir(), Port: server.Port(), Configure: r.after})
				require.NoError(t, err)
				defer next.Close()
				for p := natstest.Receive(t, "the refusal", problems); p.Cause != r.cause; p = natstest.Receive(t, "the refusal", problems) {
					require.Equal(t, conn.ProblemUnreachable, p.Kind, p)
				}
				r.rotate()
				natstest.Receive(t, "the connection with the new credentials", up)
			})
		}
	}
}

// TestCredentialRotationMissingFile removes a file after the start. The missing file is reported,
// and used again once it is restored.
func TestCredentialRotationMissingFile(t *testing.T) {
	t.Parallel()
	server := natstest.StartServer(t, withUser("bridge", "s3cret"))
	file := natstest.WriteFile(t, filepath.Join(t.TempDir(), "password"), []byte("s3cret"))
	problems, up := make(chan conn.Problem, 100), make(chan struct{}, 10)
	nc, err := conn.Connect(conn.Options{
		URL: server.URL(), User: "bridge", PasswordFile: file,
		Hooks: conn.Hooks{
			ConnectFailed: func(p conn.Problem) { problems <- p },
			Connected:     func(*nats.Conn) { up <- struct{}{} },
			Reconnected:   func(*nats.Conn) { up <- struct{}{} },
		},
	})
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	natstest.Receive(t, "the connection", up)
	require.NoError(t, os.Rename(file, file+".away"))
	server.Close()
	for {
		if p := natstest.Receive(t, "the problem", problems); p.Cause == conn.CauseLocalFile {
			require.EqualError(t, p, "nats at "+server.URL()+" is not tried: a local file cannot be used: read nats password: open "+file+": no such file or directory")
			break
		}
	}
	next, err := embedded.Open(embedded.Options{StoreDir: t.TempDir(), Port: server.Port(), Configure: withUser("bridge", "s3cret")})
	require.NoError(t, err)
	t.Cleanup(next.Close)
	require.NoError(t, os.Rename(file+".away", file))
	natstest.Receive(t, "the connection", up)
}

// refusing counts the connection attempts that it refuses.
type refusing struct{ attempts chan struct{} }

func (r *refusing) Check(natsd.ClientAuthentication) bool {
	select {
	case r.attempts <- struct{}{}:
	default:
	}
	return false
}

// closingDialer reports each of its sockets that is closed.
type closingDialer struct{ opened, closed chan struct{} }

func (d *closingDialer) Dial(network, address string) (net.Conn, error) {
	conn, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	d.opened <- struct{}{}
	return &closingConn{Conn: conn, dialer: d}, nil
}

type closingConn struct {
	net.Conn
	dialer *closingDialer
}

func (c *closingConn) Close() error {
	c.dialer.closed <- struct{}{}
	return c.Conn.Close()
}

// TestFailedHandshakeSocketClose is needed because nats.go leaves the socket of a refused
// connection to the garbage collector.
func TestFailedHandshakeSocketClose(t *testing.T) {
	t.Parallel()
	server := natstest.StartServer(t, func(o *natsd.Options) { o.CustomClientAuthentication = &refusing{make(chan struct{}, 1)} })
	d := &closingDialer{make(chan struct{}, 1000), make(chan struct{}, 1000)}
	nc, err := conn.Connect(conn.Options{URL: server.URL(), User: "bridge", Password: "wrong", ReconnectWait: time.Millisecond, ReconnectWaitMax: time.Millisecond}, nats.SetCustomDialer(d))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	for range 20 {
		natstest.Receive(t, "an attempt", d.opened)
		natstest.Receive(t, "the end of its socket", d.closed)
	}
}
