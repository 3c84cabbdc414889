package publish

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
)

func TestUnprovenStreams(t *testing.T) {
	t.Parallel()
	t.Run("one message is sent until first ack", testOneMessageIsSentUntilFirstAck)
	t.Run("rejection does not prove a stream", testRejectionDoesNotProveAStream)
}

// Streams may be created while a bridge starts: the first of several messages would be refused and
// later ones stored.
func testOneMessageIsSentUntilFirstAck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		link, creating := &wire{}, atomic.Bool{}
		creating.Store(true)
		var handlers LinkHandlers
		p, err := Open(Options{
			Open:    func(h LinkHandlers) (Link, string, error) { handlers = h; return link, "r.", nil },
			Settler: settleNothing{}, Fenced: creating.Load,
		})
		require.NoError(t, err)
		defer p.Close()
		answer := func(reply string, m nats.Msg) {
			m.Subject = reply
			handlers.Answer(&m, false)
		}
		for i := range 3 {
			p.Publish(&bridge.Message{Token: uint64(i + 1), Subject: []byte("t.a"), ID: []byte{'a' + byte(i)}})
		}
		time.Sleep(time.Minute)
		require.Empty(t, link.taken(), "while the streams are being created")
		require.Equal(t, errFenced.Error(), p.Stats().Problem)

		creating.Store(false)
		time.Sleep(minPause)
		first := link.taken()
		require.Len(t, first, 1)
		answer(first[0], nats.Msg{Header: nats.Header{"Status": {"503"}}})
		time.Sleep(time.Second)
		again := link.taken()
		require.Len(t, again, 1)
		require.NotEqual(t, first, again, "the same message, another attempt")
		answer(again[0], nats.Msg{Data: []byte(`{"stream":"T","seq":1}`)})
		require.Len(t, link.taken(), 2)
	})
}

// A message without a stream proves nothing and delays no other message.
func testRejectionDoesNotProveAStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		link := &wire{}
		var handlers LinkHandlers
		p, err := Open(Options{
			Open:    func(h LinkHandlers) (Link, string, error) { handlers = h; return link, "r.", nil },
			Settler: settleNothing{},
		})
		require.NoError(t, err)
		defer p.Close()
		for i := range 3 {
			p.Publish(&bridge.Message{Token: uint64(i + 1), Subject: []byte("t.a"), ID: []byte{'a' + byte(i)}})
		}
		first := link.taken()
		require.Len(t, first, 1)
		tooLarge := []byte(`{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"}}`)
		_, refused := parsePubAck(&nats.Msg{Data: tooLarge})
		require.Equal(t, Reject, Classify(refused), errors.Unwrap(refused))
		handlers.Answer(&nats.Msg{Subject: first[0], Data: tooLarge}, false)
		require.Len(t, link.taken(), 1)
	})
}
