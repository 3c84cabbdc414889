package publish

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"mqtt-nats-bridge/bridge"
)

func TestWindow(t *testing.T) {
	t.Parallel()
	t.Run("window contains unsettled messages", testWindowContainsUnsettledMessages)
	t.Run("entry is a copy", testEntryIsACopy)
	t.Run("quarantine copy keeps all headers", testQuarantineCopyKeepsAllHeaders)
	t.Run("large buffers are released", testLargeBuffersAreReleased)
}

// testWindowContainsUnsettledMessages drives a window as the publisher does and compares it
// with a plain list.
func testWindowContainsUnsettledMessages(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		type message struct {
			seq        uint64
			text       string
			sent, done bool
		}
		w := newWindow()
		var all []*message // from seq 1
		pushed := 0
		unsettled := func(where func(*message) bool) (out []*message) {
			for _, m := range all {
				if !m.done && where(m) {
					out = append(out, m)
				}
			}
			return out
		}
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				for range rapid.IntRange(1, 40).Draw(t, "n") {
					pushed++
					text := fmt.Sprintf("%0*d", pushed%7+1, pushed)
					w.push(&bridge.Message{Token: uint64(pushed), Subject: []byte("s"), Payload: []byte(text)})
					all = append(all, &message{seq: uint64(pushed), text: text})
				}
			},
			"advance": func(t *rapid.T) {
				w.skipDone()
				if w.next == w.tail {
					t.Skip("all are on their way")
				}
				want := unsettled(func(m *message) bool { return m.seq >= w.next })[0]
				seq, e := w.advance()
				require.Equal(t, want.seq, seq)
				var got bridge.Message
				e.view(&got)
				require.Equal(t, want.text, string(got.Payload))
				require.Equal(t, want.seq, got.Token)
				want.sent = true
			},
			"settle": func(t *rapid.T) {
				sent := unsettled(func(m *message) bool { return m.sent })
				if len(sent) == 0 {
					t.Skip("nothing is on its way")
				}
				m := rapid.SampledFrom(sent).Draw(t, "message")
				require.NotNil(t, w.unanswered(m.seq))
				w.settle(m.seq)
				m.done = true
				require.Nil(t, w.unanswered(m.seq))
			},
			"rewind": func(*rapid.T) { w.rewind() },
			"": func(t *rapid.T) {
				require.LessOrEqual(t, w.head, w.next)
				require.LessOrEqual(t, w.next, w.sent)
				require.LessOrEqual(t, w.sent, w.tail)
				bytes := 0
				for _, m := range unsettled(func(m *message) bool { return m.seq < w.next }) {
					bytes += len("s") + len(m.text)
				}
				require.Equal(t, bytes, w.bytes, "bytes on their way")
				if left := unsettled(func(*message) bool { return true }); len(left) > 0 {
					require.Equal(t, left[0].seq, w.head)
				} else {
					require.Zero(t, w.len())
				}
				require.Nil(t, w.unanswered(w.tail))
				require.Nil(t, w.unanswered(0))
			},
		})
	})
}

func testEntryIsACopy(t *testing.T) {
	t.Parallel()
	for range 3 {
		subject, id, value, payload := []byte("t.x"), []byte("id"), []byte("value"), []byte("payload")
		var e entry
		e.set(&bridge.Message{Token: 7, Subject: subject, ID: id, Payload: payload, Headers: []bridge.Header{{Name: "A", Value: value}, {Name: "B"}}})
		clone := e.clone()
		for _, b := range [][]byte{subject, id, value, payload, e.buf} {
			clear(b)
		}
		require.Equal(t, &bridge.Message{
			Token: 7, Subject: []byte("t.x"), ID: []byte("id"), Payload: []byte("payload"),
			Headers: []bridge.Header{{Name: "A", Value: []byte("value")}, {Name: "B", Value: []byte{}}},
		}, clone)
	}
}

// The largest quarantine copy is that of an attested retained message without its whole payload.
func testQuarantineCopyKeepsAllHeaders(t *testing.T) {
	t.Parallel()
	m := bridge.Message{Subject: []byte("s")}
	for _, name := range []string{
		bridge.HeaderReason, bridge.HeaderDetail, bridge.HeaderTopic, bridge.HeaderSize,
		bridge.HeaderRetained, bridge.HeaderCN, bridge.HeaderTime,
	} {
		m.Headers = append(m.Headers, bridge.Header{Name: name, Value: []byte(name)})
	}
	var e entry
	e.set(&m)
	require.Equal(t, m.Headers, e.clone().Headers)
}

func testLargeBuffersAreReleased(t *testing.T) {
	t.Parallel()
	w := newWindow()
	for range 3 {
		w.push(&bridge.Message{Payload: make([]byte, 100<<10)})
		seq, e := w.advance()
		w.settle(seq)
		require.Nil(t, e.buf)
	}
	require.Zero(t, w.bytes)
}
