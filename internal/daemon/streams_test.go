package daemon

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/embedded"
	"mqtt-nats-bridge/jetstream/streams"
)

func TestStreams(t *testing.T) {
	t.Parallel()
	t.Run("streams are created again after store loss", testStreamsAreCreatedAgainAfterStoreLoss)
	t.Run("bridge is ready again after streams are fixed", testBridgeIsReadyAgainAfterStreamsAreFixed)
	t.Run("unknown type does not stop other messages", testUnknownTypeDoesNotStopOtherMessages)
	t.Run("stream created during lookup is not missing", testStreamCreatedDuringLookupIsNotMissing)
}

func testStreamsAreCreatedAgainAfterStoreLoss(t *testing.T) {
	t.Parallel()
	devices := attesting(t)
	store := t.TempDir()
	nats, err := embedded.Open(embedded.Options{StoreDir: store, Port: testrun.Address(t).Port})
	require.NoError(t, err)
	b := run(t, append(peers(devices, nats), "BRIDGE_LANES_PARTITIONS=0-f")...)
	waitReady(t, b)
	nats.Close()
	require.NoError(t, os.RemoveAll(store))
	back, err := embedded.Open(embedded.Options{StoreDir: store, Port: nats.Port()})
	require.NoError(t, err)
	t.Cleanup(back.Close)
	publishFrom(t, devices, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", 3)
	require.Eventually(t, func() bool { return b.Totals().Stored == 3 }, testrun.Timeout, 10*time.Millisecond)
}

// The bridge notices fixed streams without a reconnect.
func testBridgeIsReadyAgainAfterStreamsAreFixed(t *testing.T) {
	t.Parallel()
	devices := attesting(t)
	store := t.TempDir()
	nats, err := embedded.Open(embedded.Options{StoreDir: store, Port: testrun.Address(t).Port})
	require.NoError(t, err)
	b, _ := runLogged(t, append(peers(devices, nats), "BRIDGE_LANES_PARTITIONS=0-f")...)
	waitReady(t, b)
	telemetry, err := b.control.js.Stream(t.Context(), "TELEMETRY")
	require.NoError(t, err)
	right := telemetry.CachedInfo().Config
	wrong := right
	wrong.Subjects = []string{"tenant.*.device.*.telemetry"}
	_, err = b.control.js.UpdateStream(t.Context(), wrong)
	require.NoError(t, err)
	nats.Close()
	back, err := embedded.Open(embedded.Options{StoreDir: store, Port: nats.Port()})
	require.NoError(t, err)
	t.Cleanup(back.Close)
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(b.Problems(), func(p Problem) bool { return p.Component == "streams" && strings.Contains(p.Problem, "TELEMETRY") })
	}, testrun.Timeout, 10*time.Millisecond)
	_, err = b.control.js.UpdateStream(t.Context(), right)
	require.NoError(t, err)
	require.Eventually(t, func() bool { ready, _ := b.Ready(); return ready }, testrun.Timeout, 10*time.Millisecond)
}

// The owner of a stream may choose to store only some of a route's subjects: a device that invents
// another type must not stop the others.
func testUnknownTypeDoesNotStopOtherMessages(t *testing.T) {
	t.Parallel()
	devices, nats := attesting(t), embeddedNATS(t)
	b := run(t, append(peers(devices, nats), "BRIDGE_LANES_PARTITIONS=0-f", "BRIDGE_STREAMS_MANAGE=off")...)
	for name, subject := range map[string]string{"NARROW": "tenant.*.device.*.telemetry", "Q": "quarantine.>"} {
		_, err := b.control.js.CreateStream(t.Context(), natsjs.StreamConfig{Name: name, Subjects: []string{subject}})
		require.NoError(t, err)
	}
	waitReady(t, b)
	publishFrom(t, devices, "acme/dev-1", "tenant/acme/device/dev-1/typo", 1)
	publishFrom(t, devices, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", 3)
	require.Eventually(t, func() bool {
		total := b.Totals()
		return total.Stored == 3 && total.QuarantinedTotal() == 1
	}, testrun.Timeout, 10*time.Millisecond)
	q, err := b.control.js.Stream(t.Context(), "Q")
	require.NoError(t, err)
	_, err = q.GetLastMsgForSubject(t.Context(), "quarantine.refused.tenant.acme.device.dev-1.typo")
	require.NoError(t, err)
}

// A stream may limit the messages of each subject and discard new ones. Messages beyond that limit
// must not stop other devices and must not be lost, even if the subject in quarantine is full too.
func TestFullSubject(t *testing.T) {
	t.Parallel()
	devices, nats := attesting(t), embeddedNATS(t)
	b := run(t, append(peers(devices, nats), "BRIDGE_LANES_PARTITIONS=0-f", "BRIDGE_STREAMS_MANAGE=off")...)
	for name, subject := range map[string]string{"T": "tenant.>", "Q": "quarantine.>"} {
		_, err := b.control.js.CreateStream(t.Context(), natsjs.StreamConfig{
			Name: name, Subjects: []string{subject},
			MaxMsgsPerSubject: 3, Discard: natsjs.DiscardNew, DiscardNewPerSubject: true,
		})
		require.NoError(t, err)
	}
	waitReady(t, b)
	publishFrom(t, devices, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", 10)
	publishFrom(t, devices, "acme/dev-2", "tenant/acme/device/dev-2/telemetry", 3)
	require.Eventually(t, func() bool {
		total := b.Totals()
		return total.Stored == 6 && total.QuarantinedTotal() == 7 && total.InFlight == 0
	}, testrun.Timeout, 10*time.Millisecond)
	q, err := b.control.js.Stream(t.Context(), "Q")
	require.NoError(t, err)
	info, err := q.Info(t.Context(), natsjs.WithSubjectFilter(">"))
	require.NoError(t, err)
	require.Len(t, info.State.Subjects, 1+4)
	require.Equal(t, uint64(3), info.State.Subjects["quarantine.refused.tenant.acme.device.dev-1.telemetry"])
}

// between wraps JetStream and runs a function after the first lookup of a subject.
type between struct {
	natsjs.JetStream
	happens func()
}

func (b *between) StreamNameBySubject(ctx context.Context, subject string) (string, error) {
	name, err := b.JetStream.StreamNameBySubject(ctx, subject)
	if b.happens != nil {
		b.happens()
		b.happens = nil
	}
	return name, err
}

// A stream that is created during the lookup must not count as missing the subject: its messages
// wait for it.
func testStreamCreatedDuringLookupIsNotMissing(t *testing.T) {
	t.Parallel()
	c, err := config.Load(config.Sources{})
	require.NoError(t, err)
	plan, err := plan.Compile(c)
	require.NoError(t, err)
	nc, err := nats.Connect("", nats.InProcessServer(embeddedNATS(t).InProcess()))
	require.NoError(t, err)
	defer nc.Close()
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	made := &control{js: &between{js, func() {
		_, err := js.CreateStream(t.Context(), natsjs.StreamConfig{Name: "TELEMETRY", Subjects: []string{"tenant.*.device.*.*"}})
		require.NoError(t, err)
	}}}
	require.False(t, made.noStreamForSubject(t.Context(), plan, "tenant.acme.device.dev-1.telemetry"))
}

func TestSubjectCoverage(t *testing.T) {
	t.Parallel()
	require.True(t, streams.Covers("a.*.c", "a.b.c"))
	require.False(t, streams.Covers("a.*.c", "a.b.d"))
	require.False(t, streams.Covers("a.*.c", "a.b"))
}
