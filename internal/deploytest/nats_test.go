package deploytest

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/streams"
)

const telemetry = "tenant.acme.device.dev-1.telemetry"

// natsPasswords must be set in the environment before nats.conf is read.
var natsPasswords = map[string]string{
	"bridge": "pb-1e5", "ingest": "pi-2e5", "operator": "po-3e5",
}

func TestMain(m *testing.M) {
	for user, password := range natsPasswords {
		if err := os.Setenv("NATS_"+strings.ToUpper(user)+"_PASSWORD", password); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// startNATS runs a server on the unchanged configuration file, except for the addresses and the
// store directory.
func startNATS(t *testing.T, file string) (*server.Server, *server.Options) {
	t.Helper()
	opts := processWithoutWarnings(t, file)
	parsed := opts.Clone()
	opts.Host, opts.Port = "127.0.0.1", -1
	opts.HTTPHost, opts.HTTPPort = "127.0.0.1", -1
	opts.StoreDir = t.TempDir()
	opts.NoLog, opts.NoSigs = true, true
	if opts.Cluster.Port != 0 {
		opts.Cluster.Host, opts.Cluster.Port = "127.0.0.1", -1
	}
	s, err := server.NewServer(opts)
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	require.True(t, s.ReadyForConnections(testrun.Timeout))
	return s, parsed
}

// processWithoutWarnings parses file with the server's own parser. A value of the wrong type, such
// as a duration without quotation marks, is a warning.
func processWithoutWarnings(t *testing.T, file string) *server.Options {
	t.Helper()
	opts := &server.Options{}
	require.NoError(t, opts.ProcessConfigFile(file)) // its error contains the warnings
	return opts
}

// peer is one user's connection and the refusals that the server sent to it.
type peer struct {
	*nats.Conn
	js       natsjs.JetStream
	refusals chan error
}

func connectNATS(t *testing.T, s *server.Server, user string) *peer {
	t.Helper()
	p := &peer{refusals: make(chan error, 64)}
	options := []nats.Option{
		nats.UserInfo(user, natsPasswords[user]),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { p.refusals <- err }),
	}
	if user != "operator" {
		options = append(options, nats.CustomInboxPrefix("_INBOX."+user))
	}
	var err error
	p.Conn, err = nats.Connect(s.ClientURL(), options...)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	p.js, err = natsjs.New(p.Conn)
	require.NoError(t, err)
	return p
}

// requireRefused waits until the server reports that it refused subject.
func (p *peer) requireRefused(t *testing.T, operation, subject string) {
	t.Helper()
	require.NoError(t, p.Flush())
	select {
	case err := <-p.refusals:
		require.ErrorIs(t, err, nats.ErrPermissionViolation)
		require.ErrorContains(t, err, operation)
		require.ErrorContains(t, err, `"`+subject+`"`)
	case <-time.After(testrun.Timeout):
		require.Fail(t, "not refused", "%s %s", operation, subject)
	}
}

// Everything so far was permitted. The server answers in order, so all refusals have arrived before
// the answer to a ping.
func (p *peer) requireNoRefusals(t *testing.T) {
	t.Helper()
	require.NoError(t, p.Flush())
	select {
	case err := <-p.refusals:
		require.NoError(t, err)
	default:
	}
}

// examples contains one subject for each stream of the wire contract.
var examples = map[string]string{
	"TELEMETRY":  telemetry,
	"SHADOW":     "tenant.acme.device.dev-1.shadow.reported",
	"COMMANDS":   "tenant.acme.device.dev-1.commands.ack",
	"QUARANTINE": "quarantine.cn_mismatch." + telemetry,
}

// defaultPlan returns the plan of a bridge without configuration.
func defaultPlan(t *testing.T) *plan.Plan {
	t.Helper()
	c, err := config.Load(config.Sources{})
	require.NoError(t, err)
	plan, err := plan.Compile(c)
	require.NoError(t, err)
	return plan
}

// createStreams creates the streams with the bridge's own start-up code.
func createStreams(t *testing.T, js natsjs.JetStream) {
	t.Helper()
	plan := defaultPlan(t)
	specs, consumers := plan.Streams, plan.Consumers
	report, err := streams.Manage(t.Context(), js, streams.ManageCreate, specs, consumers)
	require.NoError(t, err)
	require.Len(t, report.Created, len(specs)+len(consumers))
	report, err = streams.Manage(t.Context(), js, streams.ManageVerify, specs, consumers)
	require.NoError(t, err)
	require.True(t, report.Difference.Empty())
}

func TestNATSUserPermissions(t *testing.T) {
	t.Parallel()
	s, _ := startNATS(t, filepath.Join(root, "nats.conf"))
	bridge := connectNATS(t, s, "bridge")
	createStreams(t, bridge.js)
	for stream, subject := range examples {
		ack, err := bridge.js.Publish(t.Context(), subject, []byte("{}"), natsjs.WithMsgID(stream))
		require.NoError(t, err)
		require.Equal(t, stream, ack.Stream)
	}

	t.Run("bridge", func(t *testing.T) {
		_, err := bridge.js.AccountInfo(t.Context())
		require.NoError(t, err)
		for range bridge.js.ListStreams(t.Context()).Info() {
		}
		name, err := bridge.js.StreamNameBySubject(t.Context(), telemetry)
		require.NoError(t, err)
		require.Equal(t, "TELEMETRY", name)
		future, err := bridge.js.PublishAsync(telemetry, []byte("{}"), natsjs.WithMsgID("TELEMETRY"))
		require.NoError(t, err)
		select {
		case ack := <-future.Ok():
			require.True(t, ack.Duplicate)
		case err := <-future.Err():
			require.NoError(t, err)
		case <-time.After(testrun.Timeout):
			require.Fail(t, "no answer in the bridge's own inbox")
		}
		// As in the lookup of messages that may be stored already.
		_, err = bridge.js.Conn().Request("$JS.API.STREAM.MSG.GET.TELEMETRY", []byte(`{"seq":1}`), testrun.Timeout)
		require.NoError(t, err)
		bridge.requireNoRefusals(t)

		refusePublish(t, bridge,
			"other.subject", "$SYS.REQ.SERVER.PING",
			"$JS.API.STREAM.CREATE.OTHER", "$JS.API.STREAM.UPDATE.TELEMETRY", "$JS.API.STREAM.DELETE.TELEMETRY",
			"$JS.API.STREAM.PURGE.QUARANTINE", "$JS.API.STREAM.MSG.GET.OTHER", "$JS.API.DIRECT.GET.TELEMETRY",
			"$JS.API.CONSUMER.CREATE.TELEMETRY.other", "$JS.API.CONSUMER.CREATE.QUARANTINE.ingest-workers",
			"$JS.API.CONSUMER.DELETE.TELEMETRY.ingest-workers", "$JS.API.CONSUMER.MSG.NEXT.TELEMETRY.ingest-workers",
			"$JS.ACK.TELEMETRY.ingest-workers.1.1.1.1.0", "_INBOX.ingest.x",
			"$JS.API.STREAM.DELETE.KV_BRIDGE_LANES", "$JS.API.STREAM.PURGE.KV_BRIDGE_LANES", "$KV.OTHER.bridge.p0",
		)
		refuseSubscribe(t, bridge, ">", "tenant.>", "quarantine.>", "_INBOX.>", "_INBOX.ingest.>")
	})

	t.Run("ingest", func(t *testing.T) {
		ingest := connectNATS(t, s, "ingest")
		for _, spec := range defaultPlan(t).Consumers {
			consumer, err := ingest.js.Consumer(t.Context(), spec.Stream, spec.Name)
			require.NoError(t, err)
			msg, err := consumer.Next(natsjs.FetchMaxWait(testrun.Timeout))
			require.NoError(t, err)
			require.Equal(t, examples[spec.Stream], msg.Subject())
			require.NoError(t, msg.DoubleAck(t.Context()))
		}
		ack, err := ingest.js.Publish(t.Context(), "quarantine.bad_payload."+telemetry, []byte("{"))
		require.NoError(t, err)
		require.Equal(t, "QUARANTINE", ack.Stream)
		for _, spec := range defaultPlan(t).Consumers {
			stream, err := ingest.js.Stream(t.Context(), spec.Stream)
			require.NoError(t, err)
			raw, err := stream.GetMsg(t.Context(), 1)
			require.NoError(t, err)
			require.Equal(t, examples[spec.Stream], raw.Subject)
			_, err = ingest.QueueSubscribeSync("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES."+spec.Stream+"."+spec.Name, spec.Name)
			require.NoError(t, err)
		}
		ingest.requireNoRefusals(t)

		refusePublish(t, ingest,
			telemetry, "quarantine.cn_mismatch."+telemetry, "quarantine.bad_payload",
			"$JS.API.INFO", "$JS.API.STREAM.LIST", "$JS.API.STREAM.CREATE.TELEMETRY", "$JS.API.STREAM.DELETE.TELEMETRY",
			"$JS.API.CONSUMER.CREATE.TELEMETRY.ingest-workers", "$JS.API.CONSUMER.DELETE.TELEMETRY.ingest-workers",
			"$JS.API.STREAM.INFO.QUARANTINE", "$JS.API.DIRECT.GET.QUARANTINE", "$JS.API.DIRECT.GET.TELEMETRY.tenant.x", "$JS.API.STREAM.MSG.GET.TELEMETRY",
			"$JS.API.CONSUMER.MSG.NEXT.QUARANTINE.operator", "$JS.API.CONSUMER.MSG.NEXT.TELEMETRY.other",
			"$JS.ACK.QUARANTINE.operator.1.1.1.1.0", "_INBOX.bridge.x",
		)
		refuseSubscribe(t, ingest, ">", telemetry, "tenant.>", "quarantine.>", "_INBOX.>", "_INBOX.bridge.>", "$JS.EVENT.ADVISORY.>")
	})

	t.Run("operator", func(t *testing.T) {
		operator := connectNATS(t, s, "operator")
		live, err := operator.SubscribeSync("tenant.>")
		require.NoError(t, err)
		require.NoError(t, operator.Flush())
		_, err = bridge.js.Publish(t.Context(), telemetry, []byte("live"))
		require.NoError(t, err)
		msg, err := live.NextMsg(testrun.Timeout)
		require.NoError(t, err)
		require.Equal(t, "live", string(msg.Data))

		changed := defaultPlan(t)
		changed.Streams[0].MaxAge *= 2
		report, err := streams.Manage(t.Context(), operator.js, streams.ManageApply, changed.Streams, changed.Consumers)
		require.NoError(t, err)
		require.Equal(t, []string{"stream TELEMETRY"}, report.Updated)
		stream, err := operator.js.Stream(t.Context(), "QUARANTINE")
		require.NoError(t, err)
		consumer, err := operator.js.OrderedConsumer(t.Context(), "QUARANTINE", natsjs.OrderedConsumerConfig{})
		require.NoError(t, err)
		seen, err := consumer.Next(natsjs.FetchMaxWait(testrun.Timeout))
		require.NoError(t, err)
		require.Equal(t, "quarantine.cn_mismatch."+telemetry, seen.Subject())
		require.NoError(t, stream.Purge(t.Context()))
		operator.requireNoRefusals(t)

		refusePublish(t, operator, telemetry, "quarantine.bad_topic", "other.subject", "$KV.BRIDGE_LANES.p0")
	})

	t.Run("nothing refused was stored", func(t *testing.T) {
		operator := connectNATS(t, s, "operator")
		stream, err := operator.js.Stream(t.Context(), "TELEMETRY")
		require.NoError(t, err)
		require.EqualValues(t, 2, stream.CachedInfo().State.Msgs)
	})
}

func refusePublish(t *testing.T, p *peer, subjects ...string) {
	t.Helper()
	for _, subject := range subjects {
		require.NoError(t, p.Publish(subject, []byte("{}")))
		p.requireRefused(t, "Publish", subject)
	}
}

func refuseSubscribe(t *testing.T, p *peer, subjects ...string) {
	t.Helper()
	for _, subject := range subjects {
		_, err := p.SubscribeSync(subject)
		require.NoError(t, err)
		p.requireRefused(t, "Subscription", subject)
	}
}

func TestNATSConfig(t *testing.T) {
	t.Parallel()
	t.Run("durations are read as written", testDurationsAreReadAsWritten)
	t.Run("login without valid password is refused", testLoginWithoutValidPasswordIsRefused)
	t.Run("operator can use nats CLI", testOperatorCanUseNatsCLI)
}

func testDurationsAreReadAsWritten(t *testing.T) {
	t.Parallel()
	require.Equal(t, 2*time.Minute, processWithoutWarnings(t, filepath.Join(root, "nats.conf")).SyncInterval)
	processWithoutWarnings(t, filepath.Join(root, "docs/comparison/nats.conf"))
}

func testLoginWithoutValidPasswordIsRefused(t *testing.T) {
	t.Parallel()
	s, _ := startNATS(t, filepath.Join(root, "nats.conf"))
	for name, option := range map[string]nats.Option{
		"anonymous":      nats.Name("anonymous"),
		"empty":          nats.UserInfo("bridge", ""),
		"another user's": nats.UserInfo("bridge", natsPasswords["operator"]),
		"unknown user":   nats.UserInfo("admin", "admin"),
	} {
		_, err := nats.Connect(s.ClientURL(), option)
		require.ErrorIs(t, err, nats.ErrAuthorization, name)
	}
}

func TestNATSConfigMissingPassword(t *testing.T) {
	for user := range natsPasswords {
		variable := "NATS_" + strings.ToUpper(user) + "_PASSWORD"
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, "") // so that the test restores it
			require.NoError(t, os.Unsetenv(variable))
			_, err := server.ProcessConfigFile(filepath.Join(root, "nats.conf"))
			require.ErrorContains(t, err, variable)
		})
	}
}

func TestNATSConfigPasswordString(t *testing.T) {
	// The worst password that make-certs.sh can generate: digits with an e.
	t.Setenv("NATS_BRIDGE_PASSWORD", "p0123456789e0123456789")
	opts, err := server.ProcessConfigFile(filepath.Join(root, "nats.conf"))
	require.NoError(t, err)
	require.Equal(t, "p0123456789e0123456789", opts.Users[0].Password)
}

// The commented block must work too: it must parse, and the servers must accept each other.
func TestNATSConfigClusterBlock(t *testing.T) {
	t.Setenv("NATS_CLUSTER_PASSWORD", "pc-4e5")
	for _, n := range []string{"1", "2", "3"} { // unused ports
		t.Setenv("NATS_ROUTE_"+n, "nats://route:pc-4e5@127.0.0.1:"+n)
	}
	first := startClustered(t, "nats-1")
	address := url.URL{Scheme: "nats", User: url.UserPassword("route", "pc-4e5"), Host: first.ClusterAddr().String()}
	t.Setenv("NATS_ROUTE_1", address.String())
	second := startClustered(t, "nats-2")
	require.Eventually(t, func() bool { return first.NumRoutes() > 0 && second.NumRoutes() > 0 }, testrun.Timeout, 10*time.Millisecond)
}

// startClustered automates the steps in the comment above the block.
func startClustered(t *testing.T, name string) *server.Server {
	t.Helper()
	conf := read(t, "nats.conf")
	head, block, found := strings.Cut(conf, "# cluster {\n")
	require.True(t, found)
	block = "# cluster {\n" + block
	block = strings.ReplaceAll("\n"+block, "\n# ", "\n")
	require.Contains(t, head, "server_name: nats-1")
	head = strings.Replace(head, "server_name: nats-1", "server_name: "+name, 1)
	file := filepath.Join(t.TempDir(), name+".conf")
	require.NoError(t, os.WriteFile(file, []byte(head+block), 0o600))
	s, parsed := startNATS(t, file)
	require.Equal(t, "bridge", parsed.Cluster.Name)
	require.Len(t, parsed.Routes, 3)
	return s
}

func testOperatorCanUseNatsCLI(t *testing.T) {
	program := needPeer(t, "nats")
	t.Parallel()
	s, _ := startNATS(t, filepath.Join(root, "nats.conf"))
	bridge := connectNATS(t, s, "bridge")
	createStreams(t, bridge.js)
	for _, subject := range []string{telemetry, examples["QUARANTINE"]} {
		_, err := bridge.js.Publish(t.Context(), subject, []byte(`{"temperature":21.5}`))
		require.NoError(t, err)
	}

	home := t.TempDir()
	for _, c := range []struct{ command, shows string }{
		{"stream ls --names", "TELEMETRY"},
		{"stream info TELEMETRY", "tenant.*.device.*.*"},
		{"stream get TELEMETRY 1", "21.5"},
		{"stream get QUARANTINE --last-for quarantine.cn_mismatch.>", "21.5"}, // as in alerts.yml
		{"sub --stream TELEMETRY --count 1 tenant.>", "21.5"},
		{"consumer ls TELEMETRY --names", "ingest-workers"},
		{"consumer next TELEMETRY ingest-workers --count 1", "21.5"},
		{"account info", "operator"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), testrun.Timeout)
		args := append([]string{"--server", s.ClientURL(), "--user", "operator", "--password", natsPasswords["operator"]}, strings.Fields(c.command)...)
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home)
		out, err := cmd.CombinedOutput()
		cancel()
		require.NoError(t, err, "nats %s: %s", c.command, out)
		require.Contains(t, string(out), c.shows, "nats %s", c.command)
	}
}
