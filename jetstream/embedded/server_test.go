package embedded_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/embedded"
)

func TestServer(t *testing.T) {
	t.Parallel()
	t.Run("streams survive restart on same port", testStreamsSurviveRestartOnSamePort)
	t.Run("config file applies and monitoring is served", testConfigFileAppliesAndMonitoringIsServed)
	t.Run("config file without store limit gets default", testConfigFileWithoutStoreLimitGetsDefault)
}

func testStreamsSurviveRestartOnSamePort(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := embedded.Open(embedded.Options{StoreDir: dir, Port: testrun.Address(t).Port})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	js := natstest.JetStream(t, s)
	_, err = js.CreateStream(natstest.Context(t), natsjs.StreamConfig{Name: "T", Subjects: []string{"t"}})
	require.NoError(t, err)
	_, err = js.Publish(natstest.Context(t), "t", []byte("x"))
	require.NoError(t, err)
	url := s.URL()
	s.Close()
	s.Close() // a second Close has no effect
	require.Equal(t, url, s.URL())

	again, err := embedded.Open(embedded.Options{StoreDir: dir, Port: s.Port()})
	require.NoError(t, err)
	t.Cleanup(again.Close)
	require.Equal(t, url, again.URL())
	stream, err := natstest.JetStream(t, again).Stream(natstest.Context(t), "T")
	require.NoError(t, err)
	require.EqualValues(t, 1, stream.CachedInfo().State.Msgs)
}

func TestServerStartErrors(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { taken.Close() })
	dir := t.TempDir()
	file := natstest.WriteFile(t, filepath.Join(dir, "file"), nil)
	broken := natstest.WriteFile(t, filepath.Join(dir, "broken.conf"), []byte("jetstream {"))

	for name, c := range map[string]struct {
		o    embedded.Options
		says string
	}{
		"port in use":         {embedded.Options{StoreDir: t.TempDir(), Port: taken.Addr().(*net.TCPAddr).Port}, "address already in use"},
		"no directory":        {embedded.Options{}, "a directory for JetStream is required"},
		"a file for a store":  {embedded.Options{StoreDir: file}, "start JetStream"},
		"no such config":      {embedded.Options{ConfigFile: filepath.Join(dir, "none.conf")}, "none.conf"},
		"config that is none": {embedded.Options{ConfigFile: broken}, "configuration"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := embedded.Open(c.o)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func testConfigFileAppliesAndMonitoringIsServed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := natstest.WriteFile(t, filepath.Join(dir, "nats.conf"), []byte(`
		server_name: from-file
		jetstream { store_dir: "`+filepath.Join(dir, "js")+`", max_file_store: 1GB }
		authorization { user: bridge, password: s3cret }
	`))
	var lines atomic.Int64
	s, err := embedded.Open(embedded.Options{
		ConfigFile: config, HTTPPort: -1, Log: func(string, string) { lines.Add(1) },
	})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	natstest.RequireStored(t, conn.Options{URL: s.URL(), User: "bridge", Password: "s3cret"})
	require.Positive(t, lines.Load())

	response, err := http.Get(s.MonitorURL() + "/varz")
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Contains(t, string(body), `"from-file"`)
}

// nats-server's default is three quarters of the free disk, so the result would depend on the
// machine.
func testConfigFileWithoutStoreLimitGetsDefault(t *testing.T) {
	t.Parallel()
	config := natstest.WriteFile(t, filepath.Join(t.TempDir(), "nats.conf"), []byte("jetstream: enabled\n"))
	s, err := embedded.Open(embedded.Options{StoreDir: t.TempDir(), ConfigFile: config, HTTPPort: -1})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	response, err := http.Get(s.MonitorURL() + "/jsz")
	require.NoError(t, err)
	defer response.Body.Close()
	var jsz struct {
		Config struct {
			MaxStore int64 `json:"max_storage"`
		}
	}
	require.NoError(t, json.NewDecoder(response.Body).Decode(&jsz))
	require.EqualValues(t, embedded.DefaultMaxStore, jsz.Config.MaxStore)
}

// Not parallel: it counts goroutines.
func TestServerGoroutineLeak(t *testing.T) {
	before := goleak.IgnoreCurrent()
	s, err := embedded.Open(embedded.Options{StoreDir: t.TempDir()})
	require.NoError(t, err)
	natstest.RequireStored(t, conn.Options{URL: s.URL()})
	s.Close()
	nc, err := conn.Connect(conn.Options{URL: s.URL()}) // the server has no listener
	require.NoError(t, err)
	nc.Close()
	goleak.VerifyNone(t, before)
}
