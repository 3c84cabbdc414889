package publish

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
)

// After a pause of the process, its timer fires before it has read its socket. The answers in the
// socket are processed first: their messages must not be resent, because JetStream may no longer
// remember their ids.
func TestLateTimer(t *testing.T) {
	t.Parallel()
	const stood = 9 * time.Second
	for name, c := range map[string]struct {
		answers bool
		resent  uint64
	}{
		"the answer waits in the socket": {true, 0},
		"there is none":                  {false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &storage{window: 5 * time.Second, mute: true}
				p, err := Open(Options{
					Open:    func(h LinkHandlers) (Link, string, error) { s.handlers = h; return s, "r.", nil },
					Settler: settleNothing{}, Jitter: func(d time.Duration) time.Duration { return d },
				})
				require.NoError(t, err)
				defer p.Close()
				p.Publish(&bridge.Message{Subject: []byte("s"), ID: []byte("id"), Payload: []byte("x")})
				time.Sleep(3*time.Second - time.Millisecond)
				p.mu.Lock() // as if the clock had continued during that time
				p.progress, p.due = p.progress.Add(-stood), p.due.Add(-stood)
				p.mu.Unlock()
				s.set(func() { s.log[0].at = s.log[0].at.Add(-stood) })
				time.Sleep(2 * time.Millisecond)
				if c.answers {
					p.answered(1, 1, false, nil)
				}
				s.set(func() { s.mute = false })
				time.Sleep(30 * time.Second)
				synctest.Wait()
				require.Zero(t, p.Stats().Unsettled)
				require.Equal(t, c.resent, p.Stats().Resent)
			})
		})
	}
}
