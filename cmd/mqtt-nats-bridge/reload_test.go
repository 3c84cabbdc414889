package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// reloadable is a bridge whose configuration file the test writes.
type reloadable struct {
	*daemonProcess
	file    string
	address string
}

const reloadableBase = "mqtt: {url: 'mqtt://" + unreachableAddr + "'}\nnats: {url: 'nats://" + unreachableAddr + "'}\nadmin: {listen: 127.0.0.1:0}\nstreams: {manage: \"off\"}\n"

func startReloadable(t *testing.T, yaml string) *reloadable {
	t.Helper()
	r := &reloadable{file: filepath.Join(t.TempDir(), "bridge.yaml")}
	require.NoError(t, os.WriteFile(r.file, []byte(reloadableBase+yaml), 0o600))
	r.daemonProcess = start(t, "run", "--config", r.file)
	var open struct{ Address string }
	require.NoError(t, json.Unmarshal([]byte(r.waitLog("admin endpoint open")), &open))
	r.address = open.Address
	return r
}

// reload rewrites the file and sends SIGHUP; it returns the log line with the result.
func (r *reloadable) reload(yaml, said string) string {
	r.t.Helper()
	require.NoError(r.t, os.WriteFile(r.file, []byte(yaml), 0o600))
	r.seen.Reset()
	require.NoError(r.t, r.cmd.Process.Signal(syscall.SIGHUP))
	return r.waitLog(said)
}

func (r *reloadable) status() (s struct {
	Limits struct {
		Payload            int
		Device, Quarantine struct {
			Rate  float64
			Burst int
		}
	}
	Reload struct {
		At           string
		NeedsRestart []string `json:"needs_restart"`
	}
}) {
	r.t.Helper()
	resp, err := http.Get("http://" + r.address + "/status")
	require.NoError(r.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	require.NoError(r.t, json.Unmarshal(body, &s))
	return s
}

func TestReload(t *testing.T) {
	t.Parallel()
	t.Run("SIGHUP reloads configuration", testSIGHUPReloadsConfiguration)
	t.Run("invalid or missing file changes nothing", testInvalidOrMissingFileChangesNothing)
	t.Run("SIGHUP changes log level", testSIGHUPChangesLogLevel)
}

func testSIGHUPReloadsConfiguration(t *testing.T) {
	t.Parallel()
	r := startReloadable(t, "limits: {payload: 64KiB, device: {rate: 5, burst: 7}}\n")
	require.Equal(t, 5.0, r.status().Limits.Device.Rate)
	require.Empty(t, r.status().Reload.At)

	line := r.reload(reloadableBase+"limits: {payload: 32KiB, device: {rate: 30/m, burst: 3}, idle: 2h}\nquarantine: {per_device: {rate: 2, burst: 4}}\n", "configuration reloaded")
	require.Contains(t, line, `"changed":["limits.payload","limits.device.rate","limits.device.burst","limits.idle","quarantine.per_device.rate","quarantine.per_device.burst"]`)
	s := r.status()
	require.Equal(t, 32<<10, s.Limits.Payload)
	require.Equal(t, 0.5, s.Limits.Device.Rate)
	require.Equal(t, 3, s.Limits.Device.Burst)
	require.Equal(t, 4, s.Limits.Quarantine.Burst)
	require.NotEmpty(t, s.Reload.At)
	require.Empty(t, s.Reload.NeedsRestart)

	// A key that needs a restart is reported on each reload, and the other keys are applied.
	for range 2 {
		line = r.reload(reloadableBase+"limits: {payload: 16KiB, max_devices: 1000}\nstate_dir: /tmp/elsewhere\n", "changed keys need a restart")
		require.Contains(t, line, `"keys":["limits.max_devices","state_dir"]`)
		r.waitLog("configuration reloaded")
	}
	s = r.status()
	require.Equal(t, 16<<10, s.Limits.Payload)
	require.Equal(t, 100.0, s.Limits.Device.Rate, "the default again")
	require.Equal(t, []string{"limits.max_devices", "state_dir"}, s.Reload.NeedsRestart)
}

func testInvalidOrMissingFileChangesNothing(t *testing.T) {
	t.Parallel()
	r := startReloadable(t, "limits: {device: {rate: 5}}\n")
	r.reload("limits:\n  device: {rate: 6}\n  payload: big\nlog: {levle: debug}\n", "configuration reload failed, keeping the current one")
	said := r.seen.String()
	require.Contains(t, said, `bridge.yaml:3: limits.payload: \"big\" is not a size`)
	require.Contains(t, said, `bridge.yaml:4: log.levle: unknown key`)
	require.Contains(t, said, `"errors":2`)
	require.Equal(t, 5.0, r.status().Limits.Device.Rate)

	require.NoError(t, os.Remove(r.file))
	r.seen.Reset()
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGHUP))
	r.waitLog("configuration reload failed, keeping the current one")
	require.Contains(t, r.seen.String(), "bridge.yaml")
	require.Equal(t, 5.0, r.status().Limits.Device.Rate)

	r.reload(reloadableBase+"limits: {device: {rate: 6}}\n", "configuration reloaded")
	require.Equal(t, 6.0, r.status().Limits.Device.Rate)
}

func testSIGHUPChangesLogLevel(t *testing.T) {
	t.Parallel()
	r := startReloadable(t, "")
	require.NoError(t, os.WriteFile(r.file, []byte(reloadableBase+"log: {level: error}\n"), 0o600))
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool { return r.status().Reload.At != "" }, 2*time.Minute, 10*time.Millisecond)
	r.reload("log: {level: nonsense}\n", "configuration reload failed, keeping the current one")
	require.NotContains(t, r.seen.String(), `"level":"info"`, "the reload itself is no error")
	line := r.reload(reloadableBase, "configuration reloaded")
	require.Contains(t, line, `"changed":["log.level"]`)
}
