package check

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/embedded"
	"mqtt-nats-bridge/jetstream/streams"
)

func startNATS(t *testing.T, configure func(*natsd.Options)) *embedded.Server {
	t.Helper()
	s, err := embedded.Open(embedded.Options{StoreDir: t.TempDir(), Port: -1, Configure: configure})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// startNATSFile starts a server with a user admin/admin and a user bridge/bridge with these
// permissions.
func startNATSFile(t *testing.T, permissions string) *embedded.Server {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nats.conf")
	require.NoError(t, os.WriteFile(file, []byte(`authorization { users: [
		{ user: admin, password: admin }
		{ user: bridge, password: bridge, permissions: {`+permissions+`} }
	] }`), 0o600))
	s, err := embedded.Open(embedded.Options{StoreDir: t.TempDir(), Port: testrun.Address(t).Port, ConfigFile: file})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// checkNATS returns the output of checking a server.
func checkNATS(t *testing.T, env ...string) (string, *Report) {
	t.Helper()
	c, plan := load(t, env...)
	var out bytes.Buffer
	r := NewReport(&out)
	NATS(context.Background(), c, plan, r)
	return out.String(), r
}

func openJetStream(t *testing.T, url string, options ...nats.Option) natsjs.JetStream {
	t.Helper()
	nc, err := nats.Connect(url, options...)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	return js
}

func apply(t *testing.T, js natsjs.JetStream) {
	t.Helper()
	_, plan := load(t)
	_, err := streams.Manage(context.Background(), js, streams.ManageCreate, plan.Streams, plan.Consumers)
	require.NoError(t, err)
}

func TestNATSCheck(t *testing.T) {
	t.Parallel()
	t.Run("nothing is stored", testNothingIsStored)
	t.Run("stream created at start is no failure", testStreamCreatedAtStartIsNoFailure)
	t.Run("consumer with ack policy none fails", testConsumerWithAckPolicyNoneFails)
	t.Run("missing stream fails with manage verify", testMissingStreamFailsWithManageVerify)
	t.Run("wrong password differs from unreachable server", testWrongPasswordDiffersFromUnreachableServer)
	t.Run("server without JetStream fails", testServerWithoutJetStreamFails)
	t.Run("settings that would lose messages fail", testSettingsThatWouldLoseMessagesFail)
	t.Run("externally managed streams pass", testExternallyManagedStreamsPass)
	t.Run("storage too small for streams fails", testStorageTooSmallForStreamsFails)
	t.Run("probe is not stored in replicated stream", testProbeIsNotStoredInReplicatedStream)
}

func testNothingIsStored(t *testing.T) {
	t.Parallel()
	s := startNATS(t, nil)
	js := openJetStream(t, s.URL())
	apply(t, js)
	out, r := checkNATS(t, "NATS_URL="+s.URL())
	require.Zero(t, r.Failed(), out)
	for _, want := range []string{
		"ok    nats: connected to " + s.URL() + ", nats-server 2.",
		"ok    nats max_payload: ",
		"ok    stream TELEMETRY: as declared, takes tenant.*.device.*.*\n",
		"ok    jetstream account: 4 streams",
		"ok    nats publish: tenant.check.device.check.check is allowed and goes to stream TELEMETRY (nothing was stored)",
		"ok    nats publish: tenant.check.device.check.shadow.reported is allowed and goes to stream SHADOW",
		"ok    nats publish: tenant.check.device.check.commands.ack is allowed and goes to stream COMMANDS",
		"ok    nats publish: quarantine.check is allowed and goes to stream QUARANTINE",
	} {
		require.Contains(t, out, want)
	}
	for _, name := range []string{"TELEMETRY", "SHADOW", "COMMANDS", "QUARANTINE"} {
		stream, err := js.Stream(context.Background(), name)
		require.NoError(t, err)
		require.Zero(t, stream.CachedInfo().State.LastSeq, name)
	}
}

func testStreamCreatedAtStartIsNoFailure(t *testing.T) {
	t.Parallel()
	s := startNATS(t, nil)
	out, r := checkNATS(t, "NATS_URL="+s.URL())
	require.Zero(t, r.Failed(), out)
	require.Contains(t, out, "note  stream TELEMETRY: does not exist yet, the bridge creates it at start")
	require.Contains(t, out, "ok    nats publish: tenant.check.device.check.check is allowed, stream TELEMETRY is created at start")
	js := openJetStream(t, s.URL())
	_, err := js.Stream(context.Background(), "TELEMETRY")
	require.ErrorIs(t, err, natsjs.ErrStreamNotFound, "the probe of the permission made it")
}

func testConsumerWithAckPolicyNoneFails(t *testing.T) {
	t.Parallel()
	s := startNATS(t, nil)
	js := openJetStream(t, s.URL())
	apply(t, js)
	require.NoError(t, js.DeleteConsumer(t.Context(), "TELEMETRY", "ingest-workers"))
	_, err := js.CreateConsumer(t.Context(), "TELEMETRY", natsjs.ConsumerConfig{Durable: "ingest-workers", AckPolicy: natsjs.AckNonePolicy})
	require.NoError(t, err)
	out, r := checkNATS(t, "NATS_URL="+s.URL())
	require.Equal(t, 1, r.Failed(), out)
	require.Contains(t, out, "FAIL  streams: consumer TELEMETRY/ingest-workers: ack_policy is none, must be explicit")
}

func testMissingStreamFailsWithManageVerify(t *testing.T) {
	t.Parallel()
	s := startNATS(t, nil)
	out, r := checkNATS(t, "NATS_URL="+s.URL(), "BRIDGE_STREAMS_MANAGE=verify")
	require.Equal(t, 8, r.Failed(), out) // one per stream, and one per subject without a stream
	require.Contains(t, out, "FAIL  streams: stream TELEMETRY: does not exist: run mqtt-nats-bridge streams apply")
	require.Contains(t, out, "FAIL  nats publish: quarantine.check is allowed, but no stream has this subject")
}

func TestNATSPermissions(t *testing.T) {
	t.Parallel()
	const api, inbox = `"$JS.API.>"`, `subscribe: { allow: ["_INBOX.bridge.>"] }`
	for name, test := range map[string]struct {
		permissions string
		made        bool // the streams exist
		want        string
		fails       int
	}{
		"publish": {
			permissions: `publish: { allow: ["quarantine.>", ` + api + `] }, ` + inbox, made: true, fails: 3,
			want: `FAIL  nats publish: tenant.check.device.check.check is refused: the NATS user may not publish to tenant.check.device.check.check: allow the NATS user to publish to tenant.check.device.check.check; nats.conf`,
		},
		"quarantine": {
			permissions: `publish: { allow: ["tenant.>", ` + api + `] }, ` + inbox, made: true, fails: 1,
			want: `FAIL  nats publish: quarantine.check is refused`,
		},
		"inbox": {
			permissions: `publish: { allow: [">"] }, subscribe: { allow: ["_INBOX.other.>"] }`, fails: 1,
			want: "FAIL  nats inbox: replies cannot be received: the NATS user may not subscribe to _INBOX.",
		},
		"stream info": {
			permissions: `publish: { allow: ["tenant.>", "quarantine.>"] }, ` + inbox, made: true, fails: 1,
			want: `FAIL  streams: the NATS user may not publish to $JS.API.STREAM.INFO.TELEMETRY: allow the NATS user to publish to $JS.API.STREAM.INFO.TELEMETRY; nats.conf`,
		},
		"stream create": {
			permissions: `publish: { allow: ["tenant.>", "quarantine.>", "$JS.API.INFO", "$JS.API.STREAM.INFO.>", "$JS.API.STREAM.NAMES", "$JS.API.CONSUMER.INFO.>"] }, ` + inbox, fails: 4,
			want: `FAIL  stream TELEMETRY: the bridge cannot create it: the NATS user may not publish to $JS.API.STREAM.CREATE.TELEMETRY: allow the NATS user to publish to $JS.API.STREAM.CREATE.TELEMETRY, or create the stream manually and set streams.manage: verify`,
		},
		"none missing": {permissions: `publish: { allow: ["tenant.>", "quarantine.>", ` + api + `] }, ` + inbox, want: "ok    nats publish: quarantine.check"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startNATSFile(t, test.permissions)
			if test.made {
				apply(t, openJetStream(t, s.URL(), nats.UserInfo("admin", "admin")))
			}
			out, r := checkNATS(t, "NATS_URL="+s.URL(), "BRIDGE_NATS_USER=bridge", "BRIDGE_NATS_PASSWORD=bridge", "BRIDGE_NATS_INBOX_PREFIX=_INBOX.bridge")
			require.Contains(t, out, test.want)
			require.Equal(t, test.fails, r.Failed(), out)
		})
	}
}

func testWrongPasswordDiffersFromUnreachableServer(t *testing.T) {
	t.Parallel()
	s := startNATSFile(t, `publish: { allow: [">"] }`)
	out, r := checkNATS(t, "NATS_URL="+s.URL(), "BRIDGE_NATS_USER=bridge", "BRIDGE_NATS_PASSWORD=hunter2")
	require.Equal(t, 1, r.Failed())
	require.Contains(t, out, "refuses the credentials")
	require.NotContains(t, out, "hunter2")

	gone := s.URL()
	s.Close()
	out, r = checkNATS(t, "NATS_URL="+gone, "BRIDGE_NATS_USER=bridge", "BRIDGE_NATS_PASSWORD=hunter2")
	require.Equal(t, 1, r.Failed())
	require.Contains(t, out, "cannot be reached")
}

func testServerWithoutJetStreamFails(t *testing.T) {
	t.Parallel()
	s := startNATS(t, func(o *natsd.Options) { o.JetStream = false })
	out, r := checkNATS(t, "NATS_URL="+s.URL())
	require.Equal(t, 1, r.Failed(), out)
	require.Contains(t, out, "JetStream is not enabled")
}

func testSettingsThatWouldLoseMessagesFail(t *testing.T) {
	t.Parallel()
	s := startNATS(t, func(o *natsd.Options) { o.MaxPayload = 128 << 10 })
	js := openJetStream(t, s.URL())
	ctx := context.Background()
	for _, cfg := range []natsjs.StreamConfig{
		{Name: "TELEMETRY", Subjects: []string{"tenant.*.device.*.*"}, MaxMsgSize: 1 << 10},
		{Name: "SHADOW", Subjects: []string{"tenant.*.device.*.shadow.reported"}, MaxMsgs: 1, Discard: natsjs.DiscardNew},
		{Name: "COMMANDS", Subjects: []string{"tenant.*.device.*.commands.ack"}, Storage: natsjs.MemoryStorage},
		{Name: "OTHER", Subjects: []string{"quarantine.>"}},
	} {
		_, err := js.CreateStream(ctx, cfg)
		require.NoError(t, err)
	}
	_, err := js.Publish(ctx, "tenant.a.device.b.shadow.reported", nil)
	require.NoError(t, err)
	out, r := checkNATS(t, "NATS_URL="+s.URL())
	for _, want := range []string{
		"FAIL  nats max_payload: the server accepts 128KiB, but limits.payload and headers need up to 272KiB",
		"FAIL  stream TELEMETRY: max_msg_size is 1KiB, below limits.payload (256KiB)",
		"FAIL  stream SHADOW: is full (1 messages, ",
		"FAIL  streams: stream COMMANDS: storage is memory, must be file, and cannot be changed",
		"FAIL  streams: stream QUARANTINE: subject quarantine.> belongs to stream OTHER",
		"FAIL  nats publish: quarantine.check goes to stream OTHER, configured is QUARANTINE",
		"note  stream TELEMETRY: max_age is no limit, configured is 24h; the bridge does not change it",
	} {
		require.Contains(t, out, want)
	}
	require.Positive(t, r.Failed())
}

func testExternallyManagedStreamsPass(t *testing.T) {
	t.Parallel()
	s := startNATS(t, nil)
	js := openJetStream(t, s.URL())
	_, err := js.CreateStream(context.Background(), natsjs.StreamConfig{Name: "ALL", Subjects: []string{"tenant.>", "quarantine.>"}})
	require.NoError(t, err)
	out, r := checkNATS(t, "NATS_URL="+s.URL(), "BRIDGE_STREAMS_MANAGE=off")
	require.Zero(t, r.Failed(), out)
	require.Contains(t, out, "note  streams: streams.manage is off")
	require.Contains(t, out, "is allowed and goes to stream ALL")
}

// With streams.manage: off the check reads the streams and reports settings that can lose messages.
func TestUnmanagedStreams(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*natsjs.StreamConfig)
		fails  int
		want   string
	}{
		"interest": {func(c *natsjs.StreamConfig) { c.Retention = natsjs.InterestPolicy }, 1, "FAIL  streams: stream TELEMETRY: retention is interest, must be limits, or messages can be lost"},
		"memory":   {func(c *natsjs.StreamConfig) { c.Storage = natsjs.MemoryStorage }, 1, "FAIL  streams: stream TELEMETRY: storage is memory"},
		"sealed":   {func(c *natsjs.StreamConfig) { c.Sealed = true }, 1, "FAIL  streams: stream TELEMETRY: sealed is true"},
		"subjects": {func(c *natsjs.StreamConfig) { c.Subjects = append(c.Subjects, "more") }, 0, "note  streams: stream TELEMETRY: subjects is tenant.>, quarantine.>, more, configured is tenant.*.device.*.*; not changed"},
		"limits":   {func(c *natsjs.StreamConfig) { c.MaxMsgs = 1 }, 0, "note  streams: stream TELEMETRY: max_msgs is 1, configured is no limit"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startNATS(t, nil)
			js := openJetStream(t, s.URL())
			c := natsjs.StreamConfig{Name: "TELEMETRY", Subjects: []string{"tenant.>", "quarantine.>"}}
			_, err := js.CreateStream(t.Context(), c)
			require.NoError(t, err)
			test.change(&c)
			if c.Storage != natsjs.FileStorage {
				require.NoError(t, js.DeleteStream(t.Context(), "TELEMETRY"))
				_, err = js.CreateStream(t.Context(), c)
			} else {
				_, err = js.UpdateStream(t.Context(), c)
			}
			require.NoError(t, err)
			out, r := checkNATS(t, "NATS_URL="+s.URL(), "BRIDGE_STREAMS_MANAGE=off")
			require.Equal(t, test.fails, r.Failed(), out)
			require.Contains(t, out, test.want)
		})
	}
	t.Run("permission", func(t *testing.T) {
		t.Parallel()
		s := startNATSFile(t, `publish: { allow: ["tenant.>", "quarantine.>"] }, subscribe: { allow: ["_INBOX.>"] }`)
		js := openJetStream(t, s.URL(), nats.UserInfo("admin", "admin"))
		_, err := js.CreateStream(t.Context(), natsjs.StreamConfig{Name: "ALL", Subjects: []string{"tenant.>", "quarantine.>"}})
		require.NoError(t, err)
		out, r := checkNATS(t, "NATS_URL="+s.URL(), "BRIDGE_STREAMS_MANAGE=off", "BRIDGE_NATS_USER=bridge", "BRIDGE_NATS_PASSWORD=bridge")
		require.Zero(t, r.Failed(), out)
		require.Contains(t, out, "note  streams: cannot be read")
	})
}

func testStorageTooSmallForStreamsFails(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "nats.conf")
	require.NoError(t, os.WriteFile(file, []byte(`accounts { A: { jetstream: { max_file: 2GiB }, users: [{ user: bridge, password: bridge }] } }`), 0o600))
	s, err := embedded.Open(embedded.Options{StoreDir: t.TempDir(), Port: -1, ConfigFile: file})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	out, r := checkNATS(t, "NATS_URL="+s.URL(), "BRIDGE_NATS_USER=bridge", "BRIDGE_NATS_PASSWORD=bridge")
	require.Equal(t, 1, r.Failed(), out)
	require.Contains(t, out, "FAIL  jetstream account: the streams to be created reserve 13GiB and the account has 2GiB left")
}

// In a cluster, nats-server compares the expected stream in a different code path, before it
// proposes the message to the replicas.
func testProbeIsNotStoredInReplicatedStream(t *testing.T) {
	t.Parallel()
	server := startCluster(t)
	js := openJetStream(t, server)
	env := []string{"NATS_URL=" + server, "BRIDGE_STREAMS_REPLICAS=3"}
	_, plan := load(t, env...)
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, err := streams.Manage(ctx, js, streams.ManageCreate, plan.Streams, plan.Consumers)
		return err == nil
	}, 60*time.Second, 50*time.Millisecond)
	out, r := checkNATS(t, env...)
	require.Zero(t, r.Failed(), out)
	require.Contains(t, out, "tenant.check.device.check.check is allowed and goes to stream TELEMETRY (nothing was stored)")
	ack, err := js.Publish(context.Background(), "tenant.a.device.b.t", nil)
	require.NoError(t, err)
	require.EqualValues(t, 1, ack.Sequence)
}

// startCluster starts three servers and returns the URL of one.
func startCluster(t *testing.T) string {
	t.Helper()
	var routes []*url.URL
	var listen []*net.TCPAddr
	for i := range 3 {
		listen = append(listen, testrun.Address(t))
		routes = append(routes, &url.URL{Scheme: "nats", Host: listen[i].String()})
	}
	var first string
	for i := range listen {
		s := startNATS(t, func(o *natsd.Options) {
			o.ServerName = fmt.Sprintf("n%d", i)
			o.Cluster = natsd.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: listen[i].Port}
			o.Routes = routes
		})
		if first == "" {
			first = s.URL()
		}
	}
	return first
}
