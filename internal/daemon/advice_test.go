package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/journal"
	"mqtt-nats-bridge/internal/mqttaccount"
	processes "mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/mqtt"
	"mqtt-nats-bridge/mqtt/dial"
)

// TestBrokerProblem requires the same text and advice in the log, in /readyz and in the
// output of check.
func TestBrokerProblem(t *testing.T) {
	t.Parallel()
	mosquitto := processes.Mosquitto(t, processes.MosquittoOptions{Username: "bridge", Password: "right"})
	nats := embeddedNATS(t)
	for name, test := range map[string]struct {
		url, advice string
		cause       dial.Cause
	}{
		"refused":        {"mqtt://" + nowhere, "nothing listens there", dial.CauseRefused},
		"plain port":     {"mqtts://" + mosquitto.Addr, "for plain text", dial.CausePlain},
		"NATS port":      {"mqtt://" + strings.TrimPrefix(nats.URL(), "nats://"), "another program listens there", dial.CauseNotMQTT},
		"no credentials": {"mqtt://" + mosquitto.Addr, "give mqtt.username", dial.CauseNoCredentials},
		"wrong password": {"mqtt://bridge:wrong@" + mosquitto.Addr, "compare mqtt.username", dial.CauseCredentials},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, book := runLogged(t, "MQTT_URL="+test.url, "NATS_URL="+nats.URL(), "BRIDGE_IDENTITY_MODE=off")
			var found []Problem
			var lines []string // logged after the problem is visible
			require.Eventually(t, func() bool {
				found, lines = b.Problems(), book.with("mqtt not connected")
				return len(found) == 1 && found[0].Component == "mqtt" && found[0].Advice != "" && len(lines) > 0
			}, testrun.Timeout, 5*time.Millisecond, "%v", &found)
			require.Contains(t, found[0].Advice, test.advice)

			var line struct{ Component, Problem, Advice string }
			require.NoError(t, json.Unmarshal([]byte(lines[0]), &line))
			require.Equal(t, "mqtt", line.Component)
			require.Equal(t, found[0].Problem, line.Problem)
			require.Equal(t, found[0].Advice, line.Advice)

			err := mqtt.Reach(t.Context(), mqttaccount.Options(b.opts.Config.MQTT, "check"))
			var problem *dial.Problem
			require.ErrorAs(t, err, &problem)
			require.Equal(t, test.cause, problem.Cause)
			require.Equal(t, found[0].Problem, err.Error())
			require.Equal(t, found[0].Advice, mqttaccount.Advice(err))
		})
	}
}

func TestJournalAdvice(t *testing.T) {
	t.Parallel()
	path := func(err error) error {
		return fmt.Errorf("open journal: %w", &fs.PathError{Op: "open", Path: "p", Err: err})
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("open journal p: %w", journal.ErrLocked), "another bridge runs with this state_dir"},
		{path(syscall.EACCES), "let the user that runs the bridge write state_dir"},
		{path(syscall.EPERM), "let the user that runs the bridge write state_dir"},
		{path(syscall.EROFS), "read-only"},
		{fmt.Errorf("allocate: %w", syscall.ENOSPC), "free space"},
		{path(syscall.ENOTDIR), "is a directory"},
		{errors.New("anything"), "is a directory"},
	} {
		require.Contains(t, journalAdvice(c.err), c.want, c.err)
	}
}

func TestStateDir(t *testing.T) {
	t.Parallel()
	t.Run("directory of another bridge is reported", testDirectoryOfAnotherBridgeIsReported)
	t.Run("file instead of directory is reported", testFileInsteadOfDirectoryIsReported)
}

func testDirectoryOfAnotherBridgeIsReported(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opened, err := journal.Open(journal.Options{Dir: dir, ClientID: "bridge-0"})
	j := opened.Journal
	require.NoError(t, err)
	defer j.Close()
	b := run(t, "MQTT_URL=mqtt://"+nowhere, "NATS_URL=nats://"+nowhere, "BRIDGE_IDENTITY_MODE=off", "BRIDGE_STATE_DIR="+dir)
	require.Eventually(t, func() bool {
		for _, p := range b.Problems() {
			if p.Component == "lane" && p.Advice != "" {
				require.Contains(t, p.Problem, journal.ErrLocked.Error())
				require.Contains(t, p.Advice, "another bridge")
				return true
			}
		}
		return false
	}, testrun.Timeout, 5*time.Millisecond)
}

func testFileInsteadOfDirectoryIsReported(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "state")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := journal.Open(journal.Options{Dir: filepath.Join(file, "below"), ClientID: "bridge-0"})
	require.Contains(t, journalAdvice(err), "is a directory")
}

// The cause is not the broker's ACL.
func TestSubscriptionAdvice(t *testing.T) {
	t.Parallel()
	mosquitto := processes.Mosquitto(t, processes.MosquittoOptions{Extra: []string{"max_qos 0"}})
	b := run(t, "MQTT_URL="+mosquitto.URL, "NATS_URL="+embeddedNATS(t).URL(), "BRIDGE_IDENTITY_MODE=off")
	var found []Problem
	require.Eventually(t, func() bool {
		found = b.Problems()
		return len(found) == 1 && strings.Contains(found[0].Problem, "granted at QoS 0 only")
	}, testrun.Timeout, 5*time.Millisecond)
	require.Contains(t, found[0].Advice, "allow QoS 1")
	require.Contains(t, mqttaccount.Advice(&mqtt.SubscriptionError{Filter: "x", Code: 0x80}), "ACL")
}
