package operation

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/consume"
	"mqtt-nats-bridge/jetstream/embedded"
)

// needProgram finds a program, or skips the test. BRIDGE_REQUIRE_PEERS=1 makes a missing
// program a failure.
func needProgram(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("BRIDGE_REQUIRE_PEERS") == "1" {
		t.Fatalf("%v, and BRIDGE_REQUIRE_PEERS=1 demands it", err)
	}
	t.Skipf("%v; install it, or set BRIDGE_REQUIRE_PEERS=1 to make this a failure", err)
	return ""
}

// publishReadings runs a bridge with these NATS settings. Device acme/dev-1 publishes one valid
// message and one under another device's name.
func publishReadings(t *testing.T, natsSettings proof.Settings, js natsjs.JetStream) *daemon.Bridge {
	t.Helper()
	b, addr := proof.StartBroker(t, broker.Options{Username: "bridge", Password: proof.BridgePassword, Attest: true, DeviceUsernames: true})
	s := proof.Settings{"mqtt.url": "mqtt://" + addr, "mqtt.username": "bridge", "mqtt.password": proof.BridgePassword}
	for path, value := range natsSettings {
		s[path] = value
	}
	running := proof.StartInProcess(t, s)
	proof.AwaitReady(t, running)
	dev := paho.NewClient(paho.NewClientOptions().AddBroker(b.URL()).SetClientID("dev-1").SetUsername("acme/dev-1").SetProtocolVersion(4))
	proof.AwaitToken(t, dev.Connect())
	t.Cleanup(func() { dev.Disconnect(0) })
	proof.AwaitToken(t, dev.Publish("tenant/acme/device/dev-1/telemetry", 1, false, `{"temperature":21.5}`))
	proof.AwaitToken(t, dev.Publish("tenant/acme/device/dev-2/telemetry", 1, false, `{"temperature":-40}`))
	proof.AwaitMessage(t, js, "TELEMETRY", "tenant.acme.device.dev-1.telemetry")
	proof.AwaitMessage(t, js, "QUARANTINE", "quarantine.cn_mismatch.tenant.acme.device.dev-2.telemetry")
	return running
}

func TestNATSCLI(t *testing.T) {
	t.Parallel()
	program := needProgram(t, "nats")
	server := proof.StartJetStream(t, embedded.Options{})
	publishReadings(t, proof.Settings{"nats.url": server.URL()}, proof.ConnectNATS(t, server.URL()))
	for _, c := range []struct {
		command  string
		terminal bool
		shows    []string
	}{
		{"stream ls", false, []string{"TELEMETRY", "QUARANTINE"}},
		// The command asks whether to show more, so it needs a terminal.
		{"stream view TELEMETRY", true, []string{"tenant.acme.device.dev-1.telemetry", "Bridge-Cn: acme/dev-1", "21.5"}},
		{"stream view QUARANTINE", true, []string{"quarantine.cn_mismatch.tenant.acme.device.dev-2.telemetry", "Bridge-Reason: cn_mismatch", "-40"}},
		{"stream get TELEMETRY 1", false, []string{"tenant.acme.device.dev-1.telemetry", "Bridge-Cn: acme/dev-1", "21.5"}},
		{"sub --stream TELEMETRY --count 1 tenant.acme.>", false, []string{"Bridge-Cn: acme/dev-1", "21.5"}},
		{"consumer next TELEMETRY ingest-workers --count 1", false, []string{"tenant.acme.device.dev-1.telemetry", "Bridge-Cn: acme/dev-1", "21.5"}},
	} {
		t.Run(c.command, func(t *testing.T) {
			out := runNATS(t, program, server.URL(), c.command, c.terminal)
			for _, text := range c.shows {
				require.Contains(t, out, text)
			}
		})
	}
}

// runNATS runs the nats CLI with an empty home directory, on its own terminal if the command
// needs one.
func runNATS(t *testing.T, program, url, command string, terminal bool) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testrun.Timeout)
	defer cancel()
	args := append([]string{"--server", url}, strings.Fields(command)...)
	cmd := exec.CommandContext(ctx, program, args...)
	if terminal {
		cmd = exec.CommandContext(ctx, needProgram(t, "script"), "-qec", program+" "+strings.Join(args, " "), "/dev/null")
	}
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "TERM=dumb")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

// guarded is a server with the users of nats.conf, and the requests that it denied.
type guarded struct {
	*embedded.Server

	mu         sync.Mutex
	violations []string
}

func startGuarded(t *testing.T) *guarded {
	t.Helper()
	g := &guarded{}
	g.Server = proof.StartJetStream(t, embedded.Options{
		ConfigFile: "../../../nats.conf", Host: "127.0.0.1", Port: -1, HTTPPort: -1,
		Log: func(_, line string) {
			if strings.Contains(line, "Violation") {
				g.mu.Lock()
				defer g.mu.Unlock()
				g.violations = append(g.violations, line)
			}
		},
	})
	return g
}

func (g *guarded) requireNoViolations(t *testing.T) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	require.Empty(t, g.violations, "no program asks for more than it is allowed")
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	t.Run("bridge and ingest work under nats.conf", testBridgeAndIngestWorkUnderNatsConf)
	t.Run("ingest program works under nats.conf", testIngestProgramWorksUnderNatsConf)
}

func testBridgeAndIngestWorkUnderNatsConf(t *testing.T) {
	t.Parallel()
	server := startGuarded(t)
	operator := proof.ConnectNATS(t, server.URL(), nats.UserInfo("operator", passwords["operator"]))
	certificates := newBucket(t, operator, "BRIDGE_CERTS")
	putKey(t, certificates, "acme.dev-1", `{"status":"ACTIVE"}`)
	putKey(t, certificates, "acme.dev-2", `{"status":"ACTIVE"}`)
	putKey(t, newBucket(t, operator, "BRIDGE_LIMITS"), "tenant.acme", `{"rate":50,"burst":200}`)
	b := publishReadings(t, proof.Settings{
		"nats.url": server.URL(), "nats.user": "bridge", "nats.password": passwords["bridge"], "nats.inbox_prefix": "_INBOX.bridge",
		"identity.registry.kind": "kv",
	}, operator)
	proof.Eventually(t, func() bool { return b.Status(t.Context()).Limits.Overrides.Overrides == 1 },
		func() any { return b.Status(t.Context()).Limits })
	// The bridge rereads a recreated bucket and deletes the old consumer.
	require.NoError(t, operator.DeleteKeyValue(t.Context(), "BRIDGE_LIMITS"))
	newBucket(t, operator, "BRIDGE_LIMITS")
	proof.Eventually(t, func() bool { return b.Status(t.Context()).Limits.Overrides.Overrides == 0 },
		func() any { return b.Status(t.Context()).Limits })

	// A valid reading, a payload that no table accepts, and a message at the limit of its
	// deliveries: another user has set max_deliver on the consumer.
	stored := make(chan string, 10)
	shadow, err := operator.Consumer(t.Context(), "SHADOW", "ingest-shadow")
	require.NoError(t, err)
	limited := shadow.CachedInfo().Config
	limited.MaxDeliver = 1
	_, err = operator.UpdateConsumer(t.Context(), "SHADOW", limited)
	require.NoError(t, err)
	bridge := proof.ConnectNATS(t, server.URL(), nats.UserInfo("bridge", passwords["bridge"]), nats.CustomInboxPrefix("_INBOX.bridge"))
	for _, subject := range []string{"tenant.acme.device.dev-1.bad", "tenant.acme.device.dev-1.shadow.reported"} {
		_, err := bridge.Publish(t.Context(), subject, []byte("{"))
		require.NoError(t, err)
	}
	ingest := proof.ConnectNATS(t, server.URL(), nats.UserInfo("ingest", passwords["ingest"]), nats.CustomInboxPrefix("_INBOX.ingest"))
	running, stop := context.WithCancel(t.Context())
	defer stop()
	for stream, consumer := range consumers() {
		w, err := consume.NewWorkers(consume.Options{
			JetStream: ingest, Stream: stream, Consumer: consumer, Workers: 1, BatchWait: 50 * time.Millisecond,
			Handler: func(_ context.Context, batch []*consume.Message) {
				for _, m := range batch {
					switch {
					case stream == "SHADOW":
						m.Nak(0)
					case string(m.Data) == "{":
						m.DeadLetter(errors.New("not JSON"))
					default:
						m.Ack()
						stored <- m.Subject + " " + m.Header.Get("Bridge-Cn")
					}
				}
			},
		})
		require.NoError(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.Run(running)
		}()
		defer func() {
			stop()
			<-done
		}()
	}
	select {
	case got := <-stored:
		require.Equal(t, "tenant.acme.device.dev-1.telemetry acme/dev-1", got)
	case <-time.After(testrun.Timeout):
		require.Fail(t, "the reading never came")
	}
	proof.AwaitMessage(t, operator, "QUARANTINE", "quarantine.bad_payload.tenant.acme.device.dev-1.bad")
	proof.AwaitMessage(t, operator, "QUARANTINE", "quarantine.bad_payload.tenant.acme.device.dev-1.shadow.reported")
	for stream, consumer := range consumers() {
		proof.Eventually(t, func() bool {
			c, err := operator.Consumer(t.Context(), stream, consumer)
			return err == nil && c.CachedInfo().NumAckPending == 0 && c.CachedInfo().NumPending == 0
		}, func() any { return consumer })
	}
	server.requireNoViolations(t)
}

func testIngestProgramWorksUnderNatsConf(t *testing.T) {
	t.Parallel()
	database := peers.Postgres(t, "fsync=off")
	server := startGuarded(t)
	operator := proof.ConnectNATS(t, server.URL(), nats.UserInfo("operator", passwords["operator"]))
	publishReadings(t, proof.Settings{
		"nats.url": server.URL(), "nats.user": "bridge", "nats.password": passwords["bridge"], "nats.inbox_prefix": "_INBOX.bridge",
	}, operator)
	bridge := proof.ConnectNATS(t, server.URL(), nats.UserInfo("bridge", passwords["bridge"]), nats.CustomInboxPrefix("_INBOX.bridge"))
	for subject, payload := range map[string]string{
		"tenant.acme.device.dev-1.bad":             "{",
		"tenant.acme.device.dev-1.shadow.reported": `{"version":1,"reported":{}}`,
		"tenant.acme.device.dev-1.commands.ack":    `{"command_id":"c1","status":"done"}`,
	} {
		_, err := bridge.Publish(t.Context(), subject, []byte(payload))
		require.NoError(t, err)
	}
	ingest := peers.Ingest(t, []string{
		"DATABASE_URL=" + database.URL, "NATS_URL=" + server.URL(), "INGEST_NATS_USER=ingest", "INGEST_NATS_PASSWORD=" + passwords["ingest"],
		"INGEST_NATS_INBOX_PREFIX=_INBOX.ingest", "INGEST_ADMIN_LISTEN=", "INGEST_LOG_FORMAT=json",
	})
	proof.AwaitMessage(t, operator, "QUARANTINE", "quarantine.bad_payload.tenant.acme.device.dev-1.bad")
	awaitConsumed(t, operator)
	db := newTables(t, database.URL)
	for _, table := range []string{"telemetry", "device_state", "device_commands"} {
		var rows int
		require.NoError(t, db.db.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&rows))
		require.Equal(t, 1, rows, table)
	}
	var cn string
	require.NoError(t, db.db.QueryRow(t.Context(), "SELECT cn FROM telemetry").Scan(&cn))
	require.Equal(t, "acme/dev-1", cn)
	require.Zero(t, ingest.Stop(), "exit code")
	server.requireNoViolations(t)
}
