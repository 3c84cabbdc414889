package peers

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mqtt-nats-bridge/internal/pki"
	"mqtt-nats-bridge/internal/testrun"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// session connects with a persistent session and passes received messages to got.
func session(t *testing.T, url, id string, got chan<- paho.Message, change func(*paho.ClientOptions)) (paho.Client, error) {
	t.Helper()
	o := paho.NewClientOptions().AddBroker(url).SetClientID(id).SetProtocolVersion(4).SetCleanSession(false).
		SetAutoReconnect(false).SetAutoAckDisabled(true).
		SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { got <- m })
	if change != nil {
		change(o)
	}
	c := paho.NewClient(o)
	token := c.Connect()
	require.True(t, token.WaitTimeout(testrun.Timeout))
	t.Cleanup(func() { c.Disconnect(0) })
	return c, token.Error()
}

func done(t *testing.T, token paho.Token) {
	t.Helper()
	require.True(t, token.WaitTimeout(testrun.Timeout))
	require.NoError(t, token.Error())
}

func TestMosquitto(t *testing.T) {
	t.Parallel()
	t.Run("sessions survive a restart", testSessionsSurviveARestart)
	t.Run("kick keeps the session", testKickKeepsTheSession)
	t.Run("user name comes from certificate", testUserNameComesFromCertificate)
}

func testSessionsSurviveARestart(t *testing.T) {
	t.Parallel()
	m := Mosquitto(t, MosquittoOptions{Persistence: true, MaxInflight: 100})
	url := m.URL
	got := make(chan paho.Message, 16)
	c, err := session(t, url, "sub", got, nil)
	require.NoError(t, err)
	done(t, c.Subscribe("t", 1, nil))
	c.Disconnect(100)
	p, err := session(t, url, "pub", got, nil)
	require.NoError(t, err)
	for i := range 5 {
		done(t, p.Publish("t", 1, false, fmt.Sprint(i)))
	}
	m.Restart()
	require.Equal(t, url, m.URL)
	_, err = session(t, url, "sub", got, nil)
	require.NoError(t, err)
	for i := range 5 {
		require.Equal(t, fmt.Sprint(i), string((<-got).Payload()))
	}
	m.Kill9()
	_, err = net.Dial("tcp", m.Addr)
	require.Error(t, err)
	m.Start()
	require.Zero(t, m.Stop(), "a clean exit")
}

func testKickKeepsTheSession(t *testing.T) {
	t.Parallel()
	m := Mosquitto(t, MosquittoOptions{Username: "bridge", Password: "secret"})
	as := func(o *paho.ClientOptions) { o.SetUsername("bridge").SetPassword("secret") }
	lost := make(chan error, 1)
	got := make(chan paho.Message, 16)
	c, err := session(t, m.URL, "sub", got, func(o *paho.ClientOptions) {
		as(o)
		o.SetConnectionLostHandler(func(_ paho.Client, err error) { lost <- err })
	})
	require.NoError(t, err)
	done(t, c.Subscribe("t", 1, nil))
	p, err := session(t, m.URL, "pub", got, as)
	require.NoError(t, err)
	done(t, p.Publish("t", 1, false, "x"))
	first := <-got
	m.Kick("sub")
	require.Error(t, <-lost)

	_, err = session(t, m.URL, "sub", got, as)
	require.NoError(t, err)
	again := <-got
	require.True(t, again.Duplicate())
	require.Equal(t, first.MessageID(), again.MessageID())

	_, err = session(t, m.URL, "other", got, func(o *paho.ClientOptions) { o.SetUsername("bridge").SetPassword("wrong") })
	require.Error(t, err)
	require.ErrorContains(t, takeOver(m.Addr, "sub", "bridge", "wrong"), "connect as sub")
}

func testUserNameComesFromCertificate(t *testing.T) {
	t.Parallel()
	ca, err := pki.New()
	require.NoError(t, err)
	dir := t.TempDir()
	cert, err := ca.Server()
	require.NoError(t, err)
	files, err := pki.Write(dir, "server", cert)
	require.NoError(t, err)
	caFile, err := ca.WriteCA(dir)
	require.NoError(t, err)
	m := Mosquitto(t, MosquittoOptions{CAFile: caFile, CertFile: files.Cert, KeyFile: files.Key})
	require.Contains(t, m.URL, "ssl://")
	config, err := ca.ClientConfig("acme/dev-1")
	require.NoError(t, err)
	_, err = session(t, m.URL, "dev", nil, func(o *paho.ClientOptions) { o.SetTLSConfig(config) })
	require.NoError(t, err)
	m.Log().Await(t, 0, "u'acme/dev-1'")
	config, err = ca.ClientConfig("acme/dev-1")
	require.NoError(t, err)
	config.Certificates = nil
	_, err = session(t, m.URL, "none", nil, func(o *paho.ClientOptions) { o.SetTLSConfig(config) })
	require.Error(t, err)
}

func TestNATSServerRestart(t *testing.T) {
	t.Parallel()
	n := NATSServer(t, NATSOptions{Config: "accounts { A { jetstream: enabled, users: [{user: u, password: p}] } }\nhttp: 8222\n"})
	url := n.URL
	response, err := http.Get(n.MonitorURL + "/healthz")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	http.DefaultClient.CloseIdleConnections()
	require.Equal(t, http.StatusOK, response.StatusCode)

	open := func() (*nats.Conn, natsjs.JetStream) {
		nc, err := nats.Connect(url, nats.UserInfo("u", "p"), nats.Timeout(testrun.Timeout))
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		js, err := natsjs.New(nc)
		require.NoError(t, err)
		return nc, js
	}
	_, err = nats.Connect(url)
	require.ErrorIs(t, err, nats.ErrAuthorization, "the configuration counts")

	nc, js := open()
	_, err = js.CreateStream(t.Context(), natsjs.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "s.1", []byte("x"))
	require.NoError(t, err)
	n.Kill9()
	n.Start()
	nc.Close()
	require.Equal(t, url, n.URL)

	nc, js = open()
	stream, err := js.Stream(t.Context(), "S")
	require.NoError(t, err)
	require.EqualValues(t, 1, stream.CachedInfo().State.Msgs)
	n.Freeze()
	require.ErrorIs(t, nc.FlushTimeout(50*time.Millisecond), nats.ErrTimeout)
	n.Thaw()
	require.NoError(t, nc.FlushTimeout(testrun.Timeout))
	require.Zero(t, n.Stop(), "a clean exit")
}

func TestProxy(t *testing.T) {
	t.Parallel()
	t.Run("cuts and recovers", testCutsAndRecovers)
	t.Run("impairs and restores a link", testImpairsAndRestoresALink)
}

func testCutsAndRecovers(t *testing.T) {
	t.Parallel()
	p := Proxy(t, echoes(t))
	speak := func() (net.Conn, error) {
		c, err := net.Dial("tcp", p.Addr)
		if err != nil {
			return nil, err // the reset may arrive as early as here
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(testrun.Timeout))
		_, _ = c.Write([]byte("hello"))
		_, err = io.ReadFull(c, make([]byte, 5))
		return c, err
	}
	c, err := speak()
	require.NoError(t, err)
	require.NoError(t, c.(*net.TCPConn).CloseWrite())
	_, err = c.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "an end is passed on")

	c, err = speak()
	require.NoError(t, err)
	require.Positive(t, p.Cut())
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err)
	_, err = speak()
	require.NoError(t, err, "Cut does not stop new connections")

	require.Positive(t, p.Down())
	_, err = speak()
	require.Error(t, err)
	p.Up()
	_, err = speak()
	require.NoError(t, err)
	require.Equal(t, 4, p.Total())
}

// echoes serves a listener that sends back all data.
func echoes(t *testing.T) string {
	return Serve(t, func(c net.Conn) { _, _ = io.Copy(c, c) })
}

func testImpairsAndRestoresALink(t *testing.T) {
	t.Parallel()
	p := Proxy(t, echoes(t))
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", p.Addr)
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	say := func(c net.Conn, text string) {
		t.Helper()
		_, err := c.Write([]byte(text))
		require.NoError(t, err)
	}
	hear := func(c net.Conn, text string) {
		t.Helper()
		got := make([]byte, len(text))
		require.NoError(t, c.SetReadDeadline(time.Now().Add(testrun.Timeout)))
		_, err := io.ReadFull(c, got)
		require.NoError(t, err)
		require.Equal(t, text, string(got))
	}
	silent := func(c net.Conn) {
		t.Helper()
		require.NoError(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "neither a byte nor an end")
	}
	c := dial()
	say(c, "a")
	hear(c, "a")

	p.Impair(Impairment{}, Impairment{Hold: true})
	say(c, "b")
	silent(c)
	p.Mend()
	hear(c, "b")

	for _, w := range [][2]Impairment{{{Vanish: true}, {}}, {{}, {Vanish: true}}} {
		c := dial()
		say(c, "c")
		hear(c, "c")
		p.Impair(w[0], w[1])
		say(c, "d")
		silent(c)
		p.Mend()
		say(c, "e")
		silent(c)
	}
	say(c, "f")
	hear(c, "f") // no data was lost

	p.Impair(Impairment{Latency: 20 * time.Millisecond}, Impairment{Rate: 100})
	began := time.Now()
	say(c, "0123456789")
	hear(c, "0123456789")
	require.GreaterOrEqual(t, time.Since(began), 120*time.Millisecond)
	p.Mend()
	require.Positive(t, p.Cut())
}

// refusal stands in for a test that the harness ends.
type refusal struct {
	testing.TB
	said string
}

func (r *refusal) Helper()                           {}
func (r *refusal) Skipf(format string, args ...any)  { r.end("skip: ", format, args) }
func (r *refusal) Fatalf(format string, args ...any) { r.end("fail: ", format, args) }
func (r *refusal) end(how, format string, args []any) {
	r.said = how + fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestMissingPeer(t *testing.T) {
	for value, want := range map[string]string{"": "skip: program no-such-peer not found", "1": "fail: program no-such-peer not found"} {
		t.Setenv(requirePeers, value)
		r, ended := &refusal{TB: t}, make(chan struct{})
		go func() {
			defer close(ended)
			program(r, "no-such-peer")
		}()
		<-ended
		require.Contains(t, r.said, want)
	}
}

func TestProcess(t *testing.T) {
	t.Parallel()
	t.Run("early exit is reported with log", testEarlyExitIsReportedWithLog)
	t.Run("exit code and log are available after exit", testExitCodeAndLogAreAvailableAfterExit)
}

func testEarlyExitIsReportedWithLog(t *testing.T) {
	t.Parallel()
	r, ended := &refusal{TB: t}, make(chan struct{})
	path := build(t, "mqtt-nats-bridge/internal/peers/natsd")
	go func() {
		defer close(ended)
		p := &Process{t: r, name: "natsd", path: path, args: []string{"-config=/no/such/file"}, ready: func() error { return io.EOF }}
		p.must(p.launch())
	}()
	<-ended
	require.Contains(t, r.said, "exit status 1")
	require.Contains(t, r.said, "read configuration")
}

func testExitCodeAndLogAreAvailableAfterExit(t *testing.T) {
	t.Parallel()
	p := &Process{t: t, name: "sh", path: program(t, "sh"), args: []string{"-c", "echo begun; read x; exit 3"}}
	p.start()
	require.Equal(t, 3, p.Wait())
	at := p.Log().Await(t, 0, "begun")
	require.Equal(t, len("begun"), at)
	require.Zero(t, p.PID())

	p.args = []string{"-c", "echo again; sleep 60"}
	p.Start()
	p.Log().Await(t, at, "again")
	require.Positive(t, p.PID())
	p.Signal(syscall.SIGTERM)
	require.Equal(t, -1, p.Wait())
}

func TestNeutralEnv(t *testing.T) {
	t.Parallel()
	environ := []string{"PATH=/bin", "NATS_URL=x", "MQTT_URL=y", "BRIDGE_STATE_DIR=z", "HOME=/root", "NATS_URLS=kept"}
	require.Equal(t, []string{"PATH=/bin", "HOME=/root", "NATS_URLS=kept"}, neutralEnv(environ))
}

func TestBuild(t *testing.T) {
	t.Parallel()
	path := build(t, "mqtt-nats-bridge/internal/peers/natsd")
	require.Equal(t, path, build(t, "mqtt-nats-bridge/internal/peers/natsd"))
	require.True(t, filepath.IsAbs(path) && strings.HasSuffix(path, "natsd"))
}
