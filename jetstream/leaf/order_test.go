package leaf_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/publish"
)

// A full local store can get space at any moment, also between the messages of a pipeline, some of
// which are refused and some queued. With strict order no message of a device overtakes an earlier
// one.
func TestLeafOrder(t *testing.T) {
	t.Parallel()
	const devices, total = 10, 6000
	o := leafOptions(t, "nats-leaf://127.0.0.1:1", "site-a")
	o.MaxBytes = 1 << 20
	l := startLeaf(t, o)
	outcomes := natstest.NewOutcomes(t)
	p, err := publish.Open(publish.Options{
		Connect: func(extra ...nats.Option) (*nats.Conn, error) {
			return conn.Connect(conn.Options{}, extra...)
		},
		InProcess: l.InProcess(), Settler: outcomes, StrictOrder: true,
	})
	require.NoError(t, err)
	t.Cleanup(p.Close)
	js := inProcess(t, l)
	stream, err := js.Stream(t.Context(), "TELEMETRY")
	require.NoError(t, err)

	// The reader sees each message before it is removed. Space is freed as soon as the publisher
	// reports the first refusal, without waiting for the store to become idle.
	var stored []int
	consumer, err := stream.OrderedConsumer(t.Context(), natsjs.OrderedConsumerConfig{})
	require.NoError(t, err)
	messages, err := consumer.Messages()
	require.NoError(t, err)
	t.Cleanup(messages.Stop)
	for i := range total {
		p.Publish(&bridge.Message{
			Token: uint64(i), OrderKey: uint64(i%devices) + 1, ID: strconv.AppendInt(nil, int64(i), 10),
			Subject: fmt.Appendf(nil, "tenant.acme.device.dev-%d.telemetry", i%devices), Payload: make([]byte, 1024),
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var read uint64 // sequence
	for len(stored) < total {
		if p.Stats().Problem != "" && len(stored) > 100 {
			require.NoError(t, stream.Purge(ctx, natsjs.WithPurgeSequence(read-50)))
		}
		soon, stop := context.WithTimeout(ctx, 5*time.Millisecond)
		m, err := messages.Next(natsjs.NextContext(soon))
		stop()
		if err != nil {
			require.NoError(t, ctx.Err(), "%d of %d stored", len(stored), total)
			continue
		}
		meta, err := m.Metadata()
		require.NoError(t, err)
		read = meta.Sequence.Stream
		i, err := strconv.Atoi(m.Headers().Get("Nats-Msg-Id"))
		require.NoError(t, err)
		stored = append(stored, i)
	}
	newest := map[int]int{}
	for _, i := range stored {
		if n, ok := newest[i%devices]; ok {
			require.Less(t, n, i, "message %d of device %d after message %d", i, i%devices, n)
		}
		newest[i%devices] = i
	}
	require.Positive(t, p.Stats().Recoveries, "the store was never full")
}
