package conn_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/internal/tlsfile"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/embedded"
)

func withUser(user, password string) func(*natsd.Options) {
	return func(o *natsd.Options) { o.Username, o.Password = user, password }
}

func TestConnectCredentials(t *testing.T) {
	t.Parallel()

	t.Run("user and password", func(t *testing.T) {
		t.Parallel()
		s := natstest.StartServer(t, withUser("bridge", "s3cret"))
		natstest.RequireStored(t, conn.Options{URL: s.URL(), User: "bridge", Password: "s3cret"})
	})
	t.Run("in the url", func(t *testing.T) {
		t.Parallel()
		s := natstest.StartServer(t, withUser("bridge", "s3cret"))
		natstest.RequireStored(t, conn.Options{URL: "nats://bridge:s3cret@" + s.URL()[len("nats://"):]})
	})
	t.Run("token", func(t *testing.T) {
		t.Parallel()
		s := natstest.StartServer(t, func(o *natsd.Options) { o.Authorization = "t0ken" })
		natstest.RequireStored(t, conn.Options{URL: s.URL(), Token: "t0ken"})
	})
	t.Run("nkey", func(t *testing.T) {
		t.Parallel()
		pair, seed := natstest.NewUser(t)
		public, err := pair.PublicKey()
		require.NoError(t, err)
		s := natstest.StartServer(t, func(o *natsd.Options) { o.Nkeys = []*natsd.NkeyUser{{Nkey: public}} })
		file := natstest.WriteFile(t, filepath.Join(t.TempDir(), "bridge.nk"), seed)
		natstest.RequireStored(t, conn.Options{URL: s.URL(), NKeySeedFile: file})
	})
	t.Run("creds", func(t *testing.T) {
		t.Parallel()
		configure, creds := natstest.OperatorMode(t)
		s := natstest.StartServer(t, configure)
		natstest.RequireStored(t, conn.Options{URL: s.URL(), Creds: creds})
	})
	t.Run("in process", func(t *testing.T) {
		t.Parallel()
		s, err := embedded.Open(embedded.Options{StoreDir: t.TempDir(), NoListen: true})
		require.NoError(t, err)
		t.Cleanup(s.Close)
		require.Empty(t, s.URL())
		natstest.RequireStored(t, conn.Options{InProcess: s.InProcess()})
	})
	t.Run("domain", func(t *testing.T) {
		t.Parallel()
		s, err := embedded.Open(embedded.Options{StoreDir: t.TempDir(), Domain: "edge"})
		require.NoError(t, err)
		t.Cleanup(s.Close)
		natstest.RequireStored(t, conn.Options{URL: s.URL(), Domain: "edge"})
	})
}

func TestConnectTLS(t *testing.T) {
	t.Parallel()
	ca := natstest.NewCA(t, "ca")

	t.Run("server certificate", func(t *testing.T) {
		t.Parallel()
		s := natstest.StartServer(t, ca.ServerTLS(t, false))
		natstest.RequireStored(t, conn.Options{URL: s.URL(), TLSFiles: conn.TLSFiles{Files: tlsfile.Files{CA: ca.File}}})
	})
	t.Run("server name", func(t *testing.T) {
		t.Parallel()
		s := natstest.StartServer(t, ca.ServerTLS(t, false))
		natstest.RequireStored(t, conn.Options{URL: s.URL(), TLSFiles: conn.TLSFiles{Files: tlsfile.Files{CA: ca.File}, ServerName: "nats.test"}})
	})
	t.Run("client certificate", func(t *testing.T) {
		t.Parallel()
		s := natstest.StartServer(t, ca.ServerTLS(t, true))
		cert, key := ca.Issue(t, "bridge")
		natstest.RequireStored(t, conn.Options{URL: s.URL(), TLSFiles: conn.TLSFiles{Files: tlsfile.Files{CA: ca.File, Cert: cert, Key: key}}})
	})
	t.Run("handshake first", func(t *testing.T) {
		t.Parallel()
		configure := ca.ServerTLS(t, false)
		s := natstest.StartServer(t, func(o *natsd.Options) { configure(o); o.TLSHandshakeFirst = true })
		natstest.RequireStored(t, conn.Options{URL: s.URL(), TLSFiles: conn.TLSFiles{Files: tlsfile.Files{CA: ca.File}, HandshakeFirst: true}})
	})
}

// problemOf connects and returns the first problem.
func problemOf(t *testing.T, o conn.Options) conn.Problem {
	t.Helper()
	failed := make(chan conn.Problem, 10)
	o.Hooks.ConnectFailed = func(p conn.Problem) { failed <- p }
	nc, err := conn.Connect(o)
	require.NoError(t, err, "the bridge starts all the same")
	t.Cleanup(nc.Close)
	p := natstest.Receive(t, "a problem", failed)
	require.False(t, nc.IsClosed(), "it keeps trying")
	return p
}

func TestConnectProblemKinds(t *testing.T) {
	t.Parallel()
	ca, other := natstest.NewCA(t, "ca"), natstest.NewCA(t, "other")
	strangerCert, strangerKey := other.Issue(t, "stranger")

	t.Run("wrong password", func(t *testing.T) {
		t.Parallel()
		s := natstest.StartServer(t, withUser("bridge", "right"))
		p := problemOf(t, conn.Options{URL: s.URL(), User: "bridge", Password: "wr0ng"})
		require.Equal(t, conn.ProblemCredentials, p.Kind, p)
		require.ErrorContains(t, p, "nats at "+s.URL()+" refuses the credentials")
		require.NotContains(t, p.Error(), "wr0ng")
	})
	t.Run("wrong password in the url", func(t *testing.T) {
		t.Parallel()
		s := natstest.StartServer(t, withUser("bridge", "right"))
		host := s.URL()[len("nats://"):]
		p := problemOf(t, conn.Options{URL: "nats://bridge:wr0ng@" + host})
		require.Equal(t, conn.ProblemCredentials, p.Kind, p)
		require.ErrorContains(t, p, "nats://bridge:xxxxx@"+host)
		require.NotContains(t, p.Error(), "wr0ng")
	})
	t.Run("no credentials", func(t *testing.T) {
		t.Parallel()
		s := natstest.StartServer(t, withUser("bridge", "right"))
		require.Equal(t, conn.ProblemCredentials, problemOf(t, conn.Options{URL: s.URL()}).Kind)
	})
	t.Run("nothing listens", func(t *testing.T) {
		t.Parallel()
		s := natstest.StartServer(t, nil)
		s.Close()
		p := problemOf(t, conn.Options{URL: s.URL(), User: "bridge", Password: "s3cret"})
		require.Equal(t, conn.ProblemUnreachable, p.Kind, p)
		address := s.URL()[len("nats://"):]
		require.EqualError(t, p, "nats at "+s.URL()+" cannot be reached: dial tcp "+address+": connect: connection refused")
	})
	t.Run("unknown host", func(t *testing.T) {
		t.Parallel()
		p := problemOf(t, conn.Options{URL: "nats://no-such-host.invalid:4222"})
		require.Equal(t, conn.ProblemUnreachable, p.Kind, p)
	})
	t.Run("unknown authority", func(t *testing.T) {
		t.Parallel()
		s := natstest.StartServer(t, ca.ServerTLS(t, false))
		p := problemOf(t, conn.Options{URL: s.URL(), TLSFiles: conn.TLSFiles{Files: tlsfile.Files{CA: other.File}}})
		require.Equal(t, conn.ProblemTLS, p.Kind, p)
	})
	t.Run("another server name", func(t *testing.T) {
		t.Parallel()
		s := natstest.StartServer(t, ca.ServerTLS(t, false))
		p := problemOf(t, conn.Options{URL: s.URL(), TLSFiles: conn.TLSFiles{Files: tlsfile.Files{CA: ca.File}, ServerName: "elsewhere.test"}})
		require.Equal(t, conn.ProblemTLS, p.Kind, p)
	})
	t.Run("no client certificate", func(t *testing.T) {
		t.Parallel()
		s := natstest.StartServer(t, ca.ServerTLS(t, true))
		p := problemOf(t, conn.Options{URL: s.URL(), TLSFiles: conn.TLSFiles{Files: tlsfile.Files{CA: ca.File}}})
		require.Equal(t, conn.ProblemTLS, p.Kind, p)
	})
	t.Run("a stranger's client certificate", func(t *testing.T) {
		t.Parallel()
		s := natstest.StartServer(t, ca.ServerTLS(t, true))
		p := problemOf(t, conn.Options{URL: s.URL(), TLSFiles: conn.TLSFiles{Files: tlsfile.Files{CA: ca.File, Cert: strangerCert, Key: strangerKey}}})
		require.Equal(t, conn.ProblemTLS, p.Kind, p)
	})
	t.Run("tls wanted from a plain server", func(t *testing.T) {
		t.Parallel()
		s := natstest.StartServer(t, nil)
		p := problemOf(t, conn.Options{URL: s.URL(), TLSFiles: conn.TLSFiles{Files: tlsfile.Files{CA: ca.File}}})
		require.Equal(t, conn.ProblemTLS, p.Kind, p)
	})
}

func TestConnectErrorClassification(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want conn.ProblemKind
	}{
		{nats.ErrAuthorization, conn.ProblemCredentials},
		{errors.New("nats: Authorization Violation"), conn.ProblemCredentials},
		{errors.New("nats: User Authentication Expired"), conn.ProblemCredentials},
		{errors.New("nats: User Authentication Revoked"), conn.ProblemCredentials},
		{errors.New("nats: Account Authentication Expired"), conn.ProblemCredentials},
		{nats.ErrNkeysNotSupported, conn.ProblemCredentials},
		{&os.PathError{Op: "open", Path: "bridge.creds", Err: os.ErrNotExist}, conn.ProblemCredentials},
		{nats.ErrNoServers, conn.ProblemUnreachable},
		{nats.ErrNoInfoReceived, conn.ProblemUnreachable},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, conn.ProblemUnreachable},
		{&net.OpError{Op: "dial", Err: syscall.EACCES}, conn.ProblemUnreachable},
		{&net.DNSError{Err: "no such host", Name: "h"}, conn.ProblemUnreachable},
		{os.ErrDeadlineExceeded, conn.ProblemUnreachable},
		{io.EOF, conn.ProblemUnreachable},
		{nats.ErrSecureConnWanted, conn.ProblemTLS},
		{fmt.Errorf("%w: %w", nats.ErrTLS, io.EOF), conn.ProblemTLS},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}, conn.ProblemTLS},
		{nats.ErrMaxConnectionsExceeded, conn.ProblemLimit},
		{errors.New("nats: Maximum Account Active Connections Exceeded"), conn.ProblemLimit},
		{errors.New("nats: something new"), conn.ProblemOther},
	} {
		p := conn.Classify(c.err, "nats://u:s3cret@h:1")
		require.Equal(t, c.want, p.Kind, c.err)
		require.ErrorIs(t, p, c.err)
		require.ErrorContains(t, p, "nats://u:xxxxx@h:1")
		require.NotContains(t, p.Error(), "s3cret")
	}
}

func TestConnect(t *testing.T) {
	t.Parallel()
	t.Run("unreachable then refused then connected", testUnreachableThenRefusedThenConnected)
	t.Run("hook and caller handler both run", testHookAndCallerHandlerBothRun)
	t.Run("permission violation is not a connect problem", testPermissionViolationIsNotAConnectProblem)
	t.Run("initial timeout bounds first attempt", testInitialTimeoutBoundsFirstAttempt)
}

// In a fleet's first start, NATS is unreachable at first, then requires another password, and then
// the password is corrected.
func testUnreachableThenRefusedThenConnected(t *testing.T) {
	t.Parallel()
	addr := testrun.Address(t)
	start := func(password string) *embedded.Server {
		s, err := embedded.Open(embedded.Options{
			StoreDir: t.TempDir(), Port: addr.Port, Configure: withUser("bridge", password),
		})
		require.NoError(t, err)
		t.Cleanup(s.Close)
		return s
	}
	problems := make(chan conn.Problem, 100)
	up, again := make(chan struct{}, 1), make(chan struct{}, 1)
	lost := make(chan struct{}, 1)
	nc, err := conn.Connect(conn.Options{
		URL: "nats://" + addr.String(), User: "bridge", Password: "right",
		Hooks: conn.Hooks{
			ConnectFailed: func(p conn.Problem) { problems <- p },
			Connected:     func(*nats.Conn) { up <- struct{}{} },
			Disconnected:  func(*nats.Conn, error) { lost <- struct{}{} },
			Reconnected:   func(*nats.Conn) { again <- struct{}{} },
		},
	})
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	until := func(kind conn.ProblemKind) {
		t.Helper()
		for natstest.Receive(t, string(kind), problems).Kind != kind {
		}
	}
	until(conn.ProblemUnreachable)
	wrong := start("wrong")
	until(conn.ProblemCredentials)
	wrong.Close()
	until(conn.ProblemUnreachable)
	right := start("right")
	natstest.Receive(t, "the first connection", up)

	// The same applies after a connection has been established once.
	right.Close()
	natstest.Receive(t, "the loss", lost)
	until(conn.ProblemUnreachable)
	wrong = start("wrong")
	until(conn.ProblemCredentials)
	wrong.Close()
	start("right")
	natstest.Receive(t, "the reconnect", again)
	require.True(t, nc.IsConnected())
}

func testHookAndCallerHandlerBothRun(t *testing.T) {
	t.Parallel()
	s := natstest.StartServer(t, nil)
	calls := make(chan string, 4)
	nc, err := conn.Connect(conn.Options{
		URL: s.URL(),
		Hooks: conn.Hooks{
			Connected: func(*nats.Conn) { calls <- "hook connected" },
		},
	},
		nats.ConnectHandler(func(*nats.Conn) { calls <- "own connected" }),
	)
	require.NoError(t, err)
	require.Equal(t, "hook connected", natstest.Receive(t, "connected", calls))
	require.Equal(t, "own connected", natstest.Receive(t, "connected", calls))
	nc.Close()
}

func testPermissionViolationIsNotAConnectProblem(t *testing.T) {
	t.Parallel()
	s := natstest.StartServer(t, func(o *natsd.Options) {
		o.Users = []*natsd.User{{Username: "bridge", Password: "p", Permissions: &natsd.Permissions{
			Publish: &natsd.SubjectPermission{Allow: []string{"tenant.>"}},
		}}}
	})
	errs := make(chan error, 1)
	nc, err := conn.Connect(conn.Options{
		URL: s.URL(), User: "bridge", Password: "p",
		Hooks: conn.Hooks{
			Error:         func(_ *nats.Conn, err error) { errs <- err },
			ConnectFailed: func(p conn.Problem) { errs <- errors.New("not expected: " + p.Error()) },
		},
	})
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	require.NoError(t, nc.Publish("elsewhere", nil))
	require.ErrorIs(t, natstest.Receive(t, "the violation", errs), nats.ErrPermissionViolation)
}

// The connect timeout is longer than the test waits.
func testInitialTimeoutBoundsFirstAttempt(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	accepted := make(chan net.Conn, 1)
	go func() {
		defer close(accepted)
		if conn, err := silent.Accept(); err == nil {
			accepted <- conn
		}
	}()
	problems := make(chan conn.Problem, 10)
	returned := make(chan *nats.Conn, 1)
	go func() {
		nc, err := conn.Connect(conn.Options{
			URL: "nats://" + silent.Addr().String(), ConnectTimeout: 10 * testrun.Timeout, InitialConnectTimeout: time.Millisecond,
			Hooks: conn.Hooks{ConnectFailed: func(p conn.Problem) { problems <- p }},
		})
		if err != nil {
			close(returned)
			return
		}
		returned <- nc
	}()
	nc := natstest.Receive(t, "the connection that is not there yet", returned)
	require.NotNil(t, nc)
	c := natstest.Receive(t, "the first attempt", accepted)
	require.Empty(t, problems, "that it was not tried yet is none")
	require.NoError(t, silent.Close())
	require.NoError(t, c.Close())
	require.Equal(t, conn.ProblemUnreachable, natstest.Receive(t, "a problem", problems).Kind)
	nc.Close()

	s := natstest.StartServer(t, nil)
	up := make(chan struct{}, 1)
	good, err := conn.Connect(conn.Options{
		URL: s.URL(), InitialConnectTimeout: 10 * testrun.Timeout,
		Hooks: conn.Hooks{
			Connected:     func(*nats.Conn) { up <- struct{}{} },
			ConnectFailed: func(p conn.Problem) { problems <- p },
		},
	})
	require.NoError(t, err)
	t.Cleanup(good.Close)
	natstest.Receive(t, "the connection", up)
	require.True(t, good.IsConnected(), "it was waited for")
}

// A silent name server must not delay it either: nats.go would resolve the name before it dials.
// Not parallel: the resolver is global.
func TestConnectNameLookupTimeout(t *testing.T) {
	release := make(chan struct{})
	system := net.DefaultResolver
	defer func() { net.DefaultResolver = system }()
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		<-release
		return nil, errors.New("no name server")
	}}
	returned := make(chan *nats.Conn, 1)
	go func() {
		defer close(returned)
		if nc, err := conn.Connect(conn.Options{URL: "nats://nats.test:4222", InitialConnectTimeout: time.Millisecond}); err == nil {
			returned <- nc
		}
	}()
	select {
	case nc := <-returned:
		require.NotNil(t, nc)
		defer nc.Close()
	case <-time.After(testrun.Timeout):
		t.Error("the start waits for the name server")
	}
	close(release)
	for nc := range returned {
		nc.Close()
	}
}

func TestConnectInvalidOptions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing.file")
	garbage := natstest.WriteFile(t, filepath.Join(dir, "garbage"), []byte("not what it should be"))
	ca := natstest.NewCA(t, "ca")
	cert, key := ca.Issue(t, "bridge")
	_, otherKey := ca.Issue(t, "other")

	for name, c := range map[string]struct {
		o    conn.Options
		says []string
	}{
		"creds missing":       {conn.Options{Creds: missing}, []string{"creds", missing}},
		"creds garbage":       {conn.Options{Creds: garbage}, []string{"creds", garbage}},
		"nkey missing":        {conn.Options{NKeySeedFile: missing}, []string{"nkey", missing}},
		"nkey garbage":        {conn.Options{NKeySeedFile: garbage}, []string{"nkey", garbage}},
		"ca missing":          {tlsOptions(missing, "", ""), []string{"CA", missing}},
		"ca garbage":          {tlsOptions(garbage, "", ""), []string{"CA", garbage}},
		"certificate missing": {tlsOptions("", missing, key), []string{"certificate", missing}},
		"key missing":         {tlsOptions("", cert, missing), []string{"key", missing}},
		"certificate garbage": {tlsOptions("", garbage, key), []string{"certificate", garbage}},
		"another's key":       {tlsOptions("", cert, otherKey), []string{cert, otherKey}},
		"certificate alone":   {tlsOptions("", cert, ""), []string{cert, "its key is not given"}},
		"key alone":           {tlsOptions("", "", key), []string{key, "its certificate is not given"}},
		"context missing": {
			conn.Options{Context: "prod", ContextDir: dir},
			[]string{`context "prod"`, filepath.Join(dir, "prod.json")},
		},
		"context outside": {conn.Options{Context: "../prod", ContextDir: dir}, []string{"../prod", "a name"}},
		"two credentials": {conn.Options{Token: "t", User: "u"}, []string{"user and password, token", "exactly one"}},
		"two credentials, one in the url": {
			conn.Options{URL: "nats://u:s3cret@h:1", Token: "t"}, []string{"credentials in the url, token"},
		},
		"password without user": {conn.Options{Password: "p"}, []string{"password", "without a user"}},
		"bad url":               {conn.Options{URL: "nats://u:s3cret#x@h:1"}, []string{"nats://u:xxxxx@h:1", "percent-encoded"}},
		"bad scheme":            {conn.Options{URL: "mqtt://h:1"}, []string{"mqtt://h:1", "scheme"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := conn.Connect(c.o)
			for _, says := range c.says {
				require.ErrorContains(t, err, says)
			}
			require.NotContains(t, err.Error(), "s3cret")
			_, err = conn.Connect(c.o)
			require.Error(t, err)
		})
	}
}

func tlsOptions(ca, cert, key string) conn.Options {
	return conn.Options{TLSFiles: conn.TLSFiles{Files: tlsfile.Files{CA: ca, Cert: cert, Key: key}}}
}

func TestNATSCLIContext(t *testing.T) {
	t.Parallel()
	ca := natstest.NewCA(t, "ca")
	cert, key := ca.Issue(t, "bridge")
	configureTLS := ca.ServerTLS(t, true)
	s := natstest.StartServer(t, func(o *natsd.Options) {
		configureTLS(o)
		o.Username, o.Password = "bridge", "s3cret"
	})
	dir := t.TempDir()
	password := natstest.WriteFile(t, filepath.Join(dir, "password"), []byte("s3cret\n"))
	context := func(name string, fields map[string]any) {
		content, err := json.Marshal(fields)
		require.NoError(t, err)
		natstest.WriteFile(t, filepath.Join(dir, name+".json"), content)
	}

	context("good", map[string]any{
		"description": "as natscli writes it", "url": s.URL(), "user": "bridge", "password": "s3cret",
		"ca": ca.File, "cert": cert, "key": key, "inbox_prefix": "_INBOX_bridge", "color_scheme": "",
	})
	natstest.RequireStored(t, conn.Options{Context: "good", ContextDir: dir})

	context("references", map[string]any{
		"url": s.URL(), "user": "bridge", "password": "file://" + password,
		"ca": "file://" + ca.File, "cert": cert, "key": key,
	})
	natstest.RequireStored(t, conn.Options{Context: "references", ContextDir: dir})

	context("stale", map[string]any{"url": "nats://127.0.0.1:1", "token": "old", "ca": ca.File, "cert": cert, "key": key})
	natstest.RequireStored(t, conn.Options{
		Context: "stale", ContextDir: dir, URL: s.URL(), User: "bridge", Password: "s3cret",
	})

	resolved, err := conn.Options{Context: "good", ContextDir: dir}.Resolve()
	require.NoError(t, err)
	require.Equal(t, s.URL(), resolved.URL)
	require.Equal(t, "_INBOX_bridge", resolved.InboxPrefix)

	for name, c := range map[string]struct {
		fields map[string]any
		says   string
	}{
		"op":     {map[string]any{"creds": "op://vault/item"}, "creds: a reference of kind op://"},
		"socks":  {map[string]any{"socks_proxy": "socks5://h"}, "socks_proxy is set"},
		"absent": {map[string]any{"password": "file://" + filepath.Join(dir, "nope")}, "password: open"},
	} {
		context(name, c.fields)
		_, err := conn.Connect(conn.Options{Context: name, ContextDir: dir})
		require.ErrorContains(t, err, filepath.Join(dir, name+".json"))
		require.ErrorContains(t, err, c.says)
	}
	natstest.WriteFile(t, filepath.Join(dir, "broken.json"), []byte("{"))
	_, err = conn.Connect(conn.Options{Context: "broken", ContextDir: dir})
	require.ErrorContains(t, err, "broken.json")
}

func TestNATSCLIContextDirectory(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", "")
	_, err := conn.Options{Context: "prod"}.Resolve()
	require.ErrorContains(t, err, filepath.Join(home, ".config", "nats", "context", "prod.json"))
	require.ErrorIs(t, err, os.ErrNotExist)

	xdg := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", xdg)
	t.Setenv("BRIDGE_TEST_TOKEN", "t0ken")
	natstest.WriteFile(t, filepath.Join(xdg, "nats", "context", "prod.json"),
		[]byte(`{"url":"nats://n1:4222,nats://n2:4222","token":"env://BRIDGE_TEST_TOKEN","ca":"~/ca.pem"}`))
	o, err := conn.Options{Context: "prod"}.Resolve()
	require.NoError(t, err)
	require.Equal(t, "t0ken", o.Token)
	require.Equal(t, filepath.Join(home, "ca.pem"), o.TLSFiles.CA)
}

func TestRedactURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"nats://n:4222":                       "nats://n:4222",
		"n:4222":                              "n:4222",
		"nats://[::1]:4222":                   "nats://[::1]:4222",
		"nats://u:p@n:4222":                   "nats://u:xxxxx@n:4222",
		"nats://t0ken@n:4222":                 "nats://xxxxx@n:4222",
		"u:p@n:4222":                          "u:xxxxx@n:4222",
		"nats://u:p@q@n:4222":                 "nats://u:xxxxx@n:4222",
		"nats://u:p/q@n:4222":                 "nats://u:xxxxx@n:4222",
		"nats://u:p@n:4222, tls://v:q@m:4222": "nats://u:xxxxx@n:4222,tls://v:xxxxx@m:4222",
		"nats://u:half,other@n:4222":          "nats://u:xxxxx,xxxxx@n:4222",
		"":                                    "",
	} {
		require.Equal(t, want, conn.RedactURL(url))
	}
}
