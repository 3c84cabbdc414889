package daemon

import (
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

	"mqtt-nats-bridge/bridge"
	processes "mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/mqtt"
)

// The sentences are those of package mqtt.
func TestAdviceFitsTheKindOfTrouble(t *testing.T) {
	t.Parallel()
	for problem, want := range map[string]string{
		fmt.Sprintf("connect to h: %v (CONNACK 5): check mqtt.username and mqtt.password", mqtt.ErrCredentials):                   "mqtt.password_file",
		fmt.Sprintf("connect to h: %v: TLS alert \"bad certificate\": check mqtt.tls.cert and mqtt.tls.key", mqtt.ErrCredentials): "mqtt.tls.cert",
		fmt.Sprintf("connect to h: %v: dial tcp 127.0.0.1:1: connect: connection refused", mqtt.ErrUnreachable):                   "host and port of mqtt.url",
		fmt.Sprintf("connect to h: %v: tls: first record does not look like a TLS handshake", mqtt.ErrUnreachable):                "write mqtt://",
		fmt.Sprintf("connect to h: the broker closed the connection instead of answering CONNECT: %v", mqtt.ErrRefused):           "write mqtts://",
		mqtt.ErrClosedByBroker.Error(): "broker's log",

		// They say themselves what to check.
		fmt.Sprintf("connect to h: %v: x509: unknown authority: check mqtt.tls.ca and mqtt.tls.server_name", mqtt.ErrUnreachable):     "",
		fmt.Sprintf("connect to h: the answer to CONNECT is not MQTT 3.1.1: %v: check port and scheme of mqtt.url", mqtt.ErrProtocol): "",
		"not connected yet": "",
	} {
		got, advice := mqttProblem(&mqtt.Status{Problem: problem})
		require.Equal(t, problem, got)
		if want == "" {
			require.Empty(t, advice, problem)
		} else {
			require.Contains(t, advice, want, problem)
		}
	}
	_, advice := mqttProblem(&mqtt.Status{Connected: true, Problem: "waiting for the broker to grant the subscription"})
	require.Empty(t, advice)
}

func TestAJournalThatCannotBeHadComesWithAdvice(t *testing.T) {
	t.Parallel()
	path := func(err error) error {
		return fmt.Errorf("open journal: %w", &fs.PathError{Op: "open", Path: "p", Err: err})
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("open journal p: %w", bridge.ErrJournalLocked), "another bridge runs with this state_dir"},
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

func TestTwoBridgesWithOneStateDirAreNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opened, err := bridge.OpenJournal(bridge.JournalOptions{Dir: dir, ClientID: "bridge-0"})
	journal := opened.Journal
	require.NoError(t, err)
	defer journal.Close()
	b := run(t, "MQTT_URL=mqtt://"+nowhere, "NATS_URL=nats://"+nowhere, "BRIDGE_IDENTITY_MODE=off", "BRIDGE_STATE_DIR="+dir)
	require.Eventually(t, func() bool {
		for _, p := range b.Problems() {
			if p.Component == "lane" && p.Advice != "" {
				require.Contains(t, p.Problem, bridge.ErrJournalLocked.Error())
				require.Contains(t, p.Advice, "another bridge")
				return true
			}
		}
		return false
	}, patience, 5*time.Millisecond)
}

func TestAStateDirThatIsAFileIsNamed(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "state")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := bridge.OpenJournal(bridge.JournalOptions{Dir: filepath.Join(file, "below"), ClientID: "bridge-0"})
	require.Contains(t, journalAdvice(err), "is a directory")
}

// The broker's ACL has nothing to do with it.
func TestASubscriptionAtQoS0IsToldFromOneThatIsRefused(t *testing.T) {
	t.Parallel()
	mosquitto := processes.Mosquitto(t, processes.MosquittoOptions{Extra: []string{"max_qos 0"}})
	b := run(t, "MQTT_URL="+mosquitto.URL, "NATS_URL="+embeddedNATS(t).URL(), "BRIDGE_IDENTITY_MODE=off")
	var found []Problem
	require.Eventually(t, func() bool {
		found = b.Problems()
		return len(found) == 1 && strings.Contains(found[0].Problem, "granted at QoS 0 only")
	}, patience, 5*time.Millisecond)
	require.Contains(t, found[0].Advice, "allow QoS 1")
	_, advice := mqttProblem(&mqtt.Status{Connected: true, Refused: []string{"x"}, Problem: "the broker refused the subscription to x"})
	require.Contains(t, advice, "ACL")
}
