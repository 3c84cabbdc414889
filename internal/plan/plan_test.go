package plan

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/streams"
)

func TestCompileDefaults(t *testing.T) {
	t.Parallel()
	c, err := config.Load(config.Sources{})
	require.NoError(t, err)
	plan, err := Compile(c)
	require.NoError(t, err)
	js := natstest.JetStream(t, natstest.StartServer(t, nil))
	ctx := natstest.Context(t)
	report, err := streams.Manage(ctx, js, streams.ManageCreate, plan.Streams, plan.Consumers)
	require.NoError(t, err)
	require.Len(t, report.Created, 7)
	require.Empty(t, report.Notes)

	for subject, want := range map[string]string{
		"tenant.acme.device.dev-1.telemetry":                        "TELEMETRY",
		"tenant.acme.device.dev-1.shadow.reported":                  "SHADOW",
		"tenant.acme.device.dev-1.commands.ack":                     "COMMANDS",
		"quarantine.cn_mismatch.tenant.acme.device.dev-1.telemetry": "QUARANTINE",
		"quarantine.bad_topic":                                      "QUARANTINE",
		"quarantine.rate_limited.tenant.a.device.b.shadow.reported": "QUARANTINE",
	} {
		ack, err := js.Publish(ctx, subject, []byte("x"))
		require.NoError(t, err, subject)
		require.Equal(t, want, ack.Stream, subject)
	}
	const day, gib = 24 * time.Hour, 1 << 30
	for name, want := range map[string]natsjs.StreamConfig{
		"TELEMETRY":  {MaxAge: day, MaxBytes: 10 * gib, MaxMsgsPerSubject: -1},
		"SHADOW":     {MaxAge: day, MaxBytes: gib, MaxMsgsPerSubject: -1},
		"COMMANDS":   {MaxAge: day, MaxBytes: gib, MaxMsgsPerSubject: -1},
		"QUARANTINE": {MaxAge: 7 * day, MaxBytes: gib, MaxMsgsPerSubject: 1000},
	} {
		stream, err := js.Stream(ctx, name)
		require.NoError(t, err)
		got := stream.CachedInfo().Config
		require.Equal(t, want.MaxAge, got.MaxAge, name)
		require.Equal(t, want.MaxBytes, got.MaxBytes, name)
		require.Equal(t, want.MaxMsgsPerSubject, got.MaxMsgsPerSubject, name)
		require.Equal(t, natsjs.FileStorage, got.Storage, name)
		require.Equal(t, natsjs.DiscardOld, got.Discard, name)
		require.Equal(t, 2*time.Minute, got.Duplicates, name)
		require.Equal(t, 1, got.Replicas, name)
	}
	for stream, name := range map[string]string{"TELEMETRY": "ingest-workers", "SHADOW": "ingest-shadow", "COMMANDS": "ingest-commands"} {
		consumer, err := js.Consumer(ctx, stream, name)
		require.NoError(t, err)
		got := consumer.CachedInfo()
		require.Equal(t, name, got.Config.Durable)
		require.Equal(t, natsjs.AckExplicitPolicy, got.Config.AckPolicy)
		require.Equal(t, 10_000, got.Config.MaxAckPending)
		require.Equal(t, 30*time.Second, got.Config.AckWait)
		// Messages from before the first worker are kept for it; the stream notifies its consumers
		// of new messages asynchronously.
		require.Eventually(t, func() bool {
			info, err := consumer.Info(ctx)
			return err == nil && info.NumPending == 1
		}, testrun.Timeout, 10*time.Millisecond)
	}
	again, err := streams.Plan(ctx, js, plan.Streams, plan.Consumers)
	require.NoError(t, err)
	require.True(t, again.Empty(), again)
}

// errorsOf returns the errors of a file, one per line.
func errorsOf(t *testing.T, yaml string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bridge.yaml")
	require.NoError(t, os.WriteFile(file, []byte(yaml), 0o600))
	_, err := config.Load(config.Sources{File: file}, Validate)
	if err == nil {
		return nil
	}
	return strings.Split(strings.ReplaceAll(err.Error(), file, "bridge.yaml"), "\n")
}

func TestCompileTopics(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		yaml string
		want []string // the beginning of each error
	}{
		"nothing wrong": {"topics: ['a/{tenant}/{device}']", nil},
		"no device":     {"topics:\n- a/{tenant}/b", []string{"bridge.yaml:2: topics[0].topic: topic pattern \"a/{tenant}/b\" does not identify the device: it lacks {device}"}},
		"all of them": {"log: {level: loud}\ntopics:\n- a/{tenant\n- b/{tenant}/{device}\n- topic: c/{tenant}/{device}\n  subject: c.{x}\n- b/{device}/{tenant}\n", []string{
			"bridge.yaml:1: log.level: ",
			"bridge.yaml:3: topics[0].topic: ",
			"bridge.yaml:6: topics[2].subject: ",
			`bridge.yaml:7: topics[3].topic: "b/{device}/{tenant}" overlaps with "b/{tenant}/{device}" of topics[1]: both match "b/`,
		}},
		"subjects that overlap in one stream":  {"topics:\n- a/{tenant}/{device}\n- {topic: 'b/{tenant}/{device}', subject: 'a.{tenant}.{device}'}\n- {topic: 'c/{tenant}/{device}', subject: 'a.c.{device}'}", []string{"bridge.yaml:4: topics[2].subject: stream TELEMETRY: subjects a.*.* and a.c.* overlap"}},
		"subjects that overlap in two streams": {"topics:\n- a/{tenant}/{device}\n- topic: b/{tenant}/{device}\n  stream: shadow\n  subject: a.b.{device}", []string{"bridge.yaml:5: topics[1].subject: stream SHADOW: subject a.b.* overlaps with a.*.* of stream TELEMETRY"}},
		"quarantine by topic":                  {"topics: ['quarantine/{tenant}/{device}']", []string{"bridge.yaml:1: topics[0].topic: its subjects would begin with quarantine"}},
		"quarantine by template":               {"topics:\n- topic: a/{tenant}/{device}\n  subject: quarantine.{device}", []string{"bridge.yaml:3: topics[0].subject: its subjects would begin with quarantine"}},
		"quarantine by capture":                {"topics: ['{tenant}/{device}']", []string{"bridge.yaml:1: topics[0].topic: stream QUARANTINE: subject quarantine.> overlaps with *.* of stream TELEMETRY"}},
		"replies":                              {"topics: ['_INBOX/{tenant}/{device}']", []string{"bridge.yaml:1: topics[0].topic: none of its messages can be published: subject would begin with _INBOX"}},
		"prefix once":                          {"identity: {prefix: 'a//b'}", []string{"bridge.yaml:1: identity.prefix: "}},
		"wildcard once":                        {"topics: ['a/+/{tenant}/{device}']", []string{"bridge.yaml:1: topics[0].topic: \"a/+/{tenant}/{device}\" contains an MQTT wildcard"}},
		"topic twice once":                     {"topics:\n- a/{tenant}/{device}\n- a/{tenant}/{device}", []string{"bridge.yaml:3: topics[1].topic: \"a/{tenant}/{device}\" is a duplicate of topics[0]"}},
		"no topic once":                        {"topics:\n- {format: raw}", []string{"bridge.yaml:2: topics[0]: has no topic"}},
		"stream's name once":                   {"streams: {shadow: {name: a.b}}", []string{"bridge.yaml:1: streams.shadow.name: "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := errorsOf(t, test.yaml)
			require.Len(t, got, len(test.want), "%q", got)
			for i := range got {
				require.True(t, strings.HasPrefix(got[i], test.want[i]), got[i])
			}
		})
	}
}

func TestFiltersOfAttestedLanes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env             []string
		filters, former []string
	}{
		"share group": {
			filters: []string{"$share/bridge-p3/bridge/v1/3/#"},
			former:  []string{"bridge/v1/3/#", "bridge/v1/3/+/+/+/a/+/+"},
		},
		"off": {
			env:     []string{"BRIDGE_MQTT_SHARE=off"},
			filters: []string{"bridge/v1/3/#"},
			former:  []string{"$share/bridge-p3/bridge/v1/3/#", "bridge/v1/3/+/+/+/a/+/+"},
		},
		"plain topics, off": {
			env:     []string{"BRIDGE_MQTT_SHARE=off", "BRIDGE_IDENTITY_MODE=off"},
			filters: []string{"a/+/+"},
		},
		"plain topics, share group": {
			env:     []string{"BRIDGE_MQTT_SHARE=g", "BRIDGE_IDENTITY_MODE=off"},
			filters: []string{"$share/g/a/+/+"}, former: []string{"a/+/+"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := append(c.env, "BRIDGE_TOPICS=a/{tenant}/{device}")
			if len(c.former) > 1 {
				env = append(env, "BRIDGE_LANES_PARTITIONS=3")
			}
			loaded, err := config.Load(config.Sources{Env: env})
			require.NoError(t, err)
			plan, err := Compile(loaded)
			require.NoError(t, err)
			require.Len(t, plan.Lanes, 1)
			require.Equal(t, c.filters, plan.Lanes[0].Filters)
			require.Equal(t, c.former, plan.Lanes[0].Former)
		})
	}
}
