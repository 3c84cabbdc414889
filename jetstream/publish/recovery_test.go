package publish

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
)

func TestPublisherRecoveryAlarm(t *testing.T) {
	t.Parallel()
	advice := func(err error) string {
		if errors.Is(err, ErrAckTimeout) {
			return ""
		}
		return "free space"
	}
	for _, problem := range []error{ErrAckTimeout, &APIError{ErrCode: 10077}} {
		var log bytes.Buffer
		p := &Publisher{opts: Options{Log: zerolog.New(&log), Advice: advice}}
		p.recovery = recovery{active: true, since: time.Now().Add(-logAfter), problem: problem}
		p.logLasting()
		p.logLasting()
		var line map[string]any
		require.NoError(t, json.Unmarshal(log.Bytes(), &line), "one line: %s", &log)
		require.Equal(t, problem.Error(), line["problem"])
		if text := advice(problem); text != "" {
			require.Equal(t, text, line["advice"])
		} else {
			require.NotContains(t, line, "advice")
		}
	}
}

// steady implements the common part of test links, which are always connected.
type steady struct{}

func (steady) IsConnected() bool  { return true }
func (steady) Generation() uint64 { return 1 }
func (steady) BeginSend() bool    { return true }
func (steady) EndSend()           {}
func (steady) LastError() error   { return nil }
func (steady) MaxPayload() int64  { return 1 << 20 }
func (steady) Close()             {}

// wire is a link that records the sent messages.
type wire struct {
	steady
	mu   sync.Mutex
	sent []string // reply subjects
}

func (w *wire) PublishMsg(m *nats.Msg) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = append(w.sent, strings.Clone(m.Reply))
	return nil
}

// taken returns the reply subjects since the last call.
func (w *wire) taken() []string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := w.sent
	w.sent = nil
	return sent
}

type settleNothing struct{}

func (settleNothing) Settle(*bridge.Result) {}
func (settleNothing) SettleDone()           {}

func TestPublisherRecovery(t *testing.T) {
	t.Parallel()
	t.Run("ack of earlier send is not the end", testAckOfEarlierSendIsNotTheEnd)
	t.Run("closed link is replaced", testClosedLinkIsReplaced)
}

// A new leader answers for messages of its predecessor before it accepts any itself. That answer
// must not cause all others to be sent.
func testAckOfEarlierSendIsNotTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		link := &wire{}
		var handlers LinkHandlers
		p, err := Open(Options{
			Open:    func(h LinkHandlers) (Link, string, error) { handlers = h; return link, "r.", nil },
			Settler: settleNothing{}, Jitter: func(d time.Duration) time.Duration { return d },
		})
		require.NoError(t, err)
		p.Prove()
		answer := func(reply string) {
			handlers.Answer(&nats.Msg{Subject: reply, Data: []byte(`{"stream":"S","seq":1}`)}, false)
		}
		for i := range uint64(4) {
			p.Publish(&bridge.Message{Token: i, Subject: []byte("s"), Payload: []byte("x")})
		}
		first := link.taken()
		require.Len(t, first, 4)
		time.Sleep(3*time.Second + time.Millisecond) // the acknowledgement timeout
		probe := link.taken()
		require.Len(t, probe, 1, "a probe with the oldest")

		answer(first[0])
		require.Empty(t, link.taken(), "nothing follows yet")
		time.Sleep(minPause + time.Millisecond)
		probe = link.taken()
		require.Len(t, probe, 1, "a probe with the next one")
		answer(first[1])
		answer(first[2])
		time.Sleep(minPause + time.Millisecond)
		probe = link.taken()
		require.Len(t, probe, 1)

		p.Publish(&bridge.Message{Token: 4, Subject: []byte("s"), Payload: []byte("x")})
		answer(first[3])
		time.Sleep(minPause + time.Millisecond)
		probe = link.taken()
		require.Len(t, probe, 1, "a probe with one that was never sent")
		p.Publish(&bridge.Message{Token: 5, Subject: []byte("s"), Payload: []byte("x")})
		require.Empty(t, link.taken())
		answer(probe[0])
		require.Len(t, link.taken(), 1, "the way is proven")
		require.Empty(t, p.Stats().Problem)
		p.Close()
	})
}

// deadWire is a link that was closed permanently.
type deadWire struct{ wire }

func (*deadWire) PublishMsg(*nats.Msg) error { return nats.ErrConnectionClosed }
func (*deadWire) IsConnected() bool          { return false }

// nats.go reports a permanently closed connection on its own goroutine, so the publisher may not
// have received the connection yet.
func testClosedLinkIsReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		link, opened := &wire{}, 0
		p, err := Open(Options{
			Open: func(h LinkHandlers) (Link, string, error) {
				opened++
				if opened < 4 {
					dead := &deadWire{}
					h.Closed(dead)
					return dead, "r.", nil
				}
				return link, "r.", nil
			},
			Settler: settleNothing{},
		})
		require.NoError(t, err)
		p.Publish(&bridge.Message{Token: 1, Subject: []byte("s"), Payload: []byte("x")})
		time.Sleep(time.Minute)
		require.NotEmpty(t, link.taken())
		p.Close()
	})
}
