package publish_test

import (
	"strings"
	"testing"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/natstest"
)

// A stream may be created while messages are on their way to it.
func TestStreamCreationOrder(t *testing.T) {
	t.Parallel()
	srv := natstest.StartServer(t, nil)
	js := natstest.JetStream(t, srv)
	rounds := 20
	if testing.Short() { // the race detector makes it slow
		rounds = 3
	}
	for range rounds {
		o := natstest.NewOutcomes(t)
		p := publisher(t, srv.URL(), o)
		created := make(chan error, 1)
		go func() {
			_, err := js.CreateStream(natstest.Context(t), natsjs.StreamConfig{Name: "T", Subjects: []string{"t.>"}})
			created <- err
		}()
		var b numbered
		padding := []byte(strings.Repeat(" ", 1000))
		const n = 3000
		for i := range n {
			m := b.message(i)
			m.Headers = []bridge.Header{{Name: "Padding", Value: padding}}
			p.Publish(m)
		}
		require.NoError(t, <-created)
		o.Wait(n)
		s, err := js.Stream(natstest.Context(t), "T")
		require.NoError(t, err)
		requireExactly(t, s, n)
		p.Close()
		require.NoError(t, js.DeleteStream(natstest.Context(t), "T"))
	}
}
