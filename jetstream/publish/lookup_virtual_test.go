package publish

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
)

// storage is a link to a stream in memory with a duplicate window.
type storage struct {
	steady
	handlers LinkHandlers
	window   time.Duration

	mu        sync.Mutex
	mute      bool          // stores but does not answer
	deaf      bool          // does not store
	silent    bool          // does not answer lookups
	answer    string        // the answer to each lookup; empty: the correct one
	service   time.Duration // of each lookup; one is served after the other
	served    time.Time     // when the latest lookup is answered
	log       []stored
	questions int
}

type stored struct {
	subject, id string
	at          time.Time
}

func (s *storage) PublishMsg(m *nats.Msg) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var delay time.Duration
	answer := func(body string) {
		if !s.mute {
			reply := strings.Clone(m.Reply)
			time.AfterFunc(delay, func() { s.handlers.Answer(&nats.Msg{Subject: reply, Data: []byte(body)}, false) })
		}
	}
	if strings.HasPrefix(m.Subject, "$JS.API.") {
		s.questions++
		if now := time.Now(); s.served.Before(now) {
			s.served = now
		}
		s.served = s.served.Add(s.service)
		delay = time.Until(s.served)
		switch {
		case s.silent:
		case s.answer != "":
			answer(s.answer)
		default:
			answer(s.ask(m))
		}
		return nil
	}
	if s.deaf {
		return nil
	}
	id := m.Header.Get(nats.MsgIdHdr)
	for _, e := range s.log {
		if e.id == id && time.Since(e.at) < s.window {
			answer(`{"stream":"S","seq":1,"duplicate":true}`)
			return nil
		}
	}
	s.log = append(s.log, stored{strings.Clone(m.Subject), strings.Clone(id), time.Now()})
	answer(`{"stream":"S","seq":1}`)
	return nil
}

func (s *storage) ask(m *nats.Msg) string {
	if strings.Contains(m.Subject, ".INFO.") {
		return `{"ts":"` + time.Now().UTC().Format(time.RFC3339Nano) + `"}`
	}
	var q struct {
		Subject string    `json:"next_by_subj"`
		Seq     int       `json:"seq"`
		Start   time.Time `json:"start_time"`
	}
	if err := json.Unmarshal(m.Data, &q); err != nil {
		panic(err)
	}
	for i, e := range s.log {
		if e.subject == q.Subject && i+1 >= q.Seq && !e.at.Before(q.Start) {
			return fmt.Sprintf(`{"message":{"seq":%d,"hdrs":%q}}`, i+1, base64.StdEncoding.EncodeToString([]byte("NATS/1.0\r\nNats-Msg-Id: "+e.id+"\r\n\r\n")))
		}
	}
	return `{"error":{"code":404,"err_code":10037,"description":"no message found"}}`
}

func (s *storage) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *storage) ids() (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.log {
		ids = append(ids, e.id)
	}
	return ids
}

func TestLookupAfterSilence(t *testing.T) {
	t.Parallel()
	const window = 2 * time.Minute
	open := func(t *testing.T, s *storage) *Publisher {
		s.window = window
		p, err := Open(Options{
			Open:    func(h LinkHandlers) (Link, string, error) { s.handlers = h; return s, "r.", nil },
			Settler: settleNothing{}, Jitter: func(d time.Duration) time.Duration { return d },
			Lookup: &LookupOptions{
				API: "$JS.API", StreamOf: func(string) string { return "S" }, Window: func() time.Duration { return window },
			},
		})
		require.NoError(t, err)
		p.Prove()
		return p
	}
	publish := func(p *Publisher, n ...int) {
		for _, i := range n {
			p.Publish(&bridge.Message{Token: uint64(i), Subject: fmt.Appendf(nil, "s.%d", i%2), ID: fmt.Append(nil, i), Payload: []byte("x")})
		}
	}
	settled := func(t *testing.T, p *Publisher) {
		t.Helper()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		require.Zero(t, p.Stats().Unsettled)
		require.Empty(t, p.Stats().Problem)
	}
	for _, outage := range []time.Duration{10 * time.Second, window, time.Hour} {
		t.Run("outage of "+outage.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &storage{}
				p := open(t, s)
				defer p.Close()
				publish(p, 0, 1)
				settled(t, p)
				s.set(func() { s.mute = true })
				publish(p, 2, 3, 4) // stored, but the PubAck is lost
				synctest.Wait()
				s.set(func() { s.deaf = true })
				publish(p, 5, 6)
				time.Sleep(outage)
				s.set(func() { s.deaf, s.mute = false, false })
				publish(p, 7)
				settled(t, p)
				require.Equal(t, []string{"0", "1", "2", "3", "4", "5", "6", "7"}, s.ids())
			})
		})
	}
	t.Run("queue longer than the window", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			const n = 100
			s := &storage{deaf: true, silent: true}
			p := open(t, s)
			defer p.Close()
			for i := range n {
				p.Publish(&bridge.Message{Token: uint64(i), Subject: fmt.Append(nil, "s.", i), ID: fmt.Append(nil, i), Payload: []byte("x")})
			}
			time.Sleep(2 * window)
			s.set(func() { s.deaf, s.silent, s.service, s.questions = false, false, 1500*time.Millisecond, 0 })
			time.Sleep(time.Hour)
			require.Zero(t, p.Stats().Unsettled)
			require.Len(t, s.ids(), n)
			require.Less(t, s.questions, 3*n)
		})
	})
	t.Run("nothing is asked in normal running", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := &storage{}
			p := open(t, s)
			defer p.Close()
			for i := range 1000 {
				publish(p, i)
				time.Sleep(time.Second)
			}
			require.Zero(t, s.questions)
		})
	})
	for _, wrong := range []string{`{"stream":"S"}`, `{}`, `{"error":{"code":503,"err_code":10008}}`} {
		t.Run("wrong "+wrong, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &storage{mute: true, silent: true}
				p := open(t, s)
				defer p.Close()
				publish(p, 0, 1)
				time.Sleep(time.Hour)
				s.set(func() { s.mute, s.silent, s.answer, s.questions = false, false, wrong, 0 })
				time.Sleep(time.Minute)
				require.Equal(t, []string{"0", "1"}, s.ids(), "never sent without an answer")
				require.Less(t, s.questions, 200, "asked again after a pause")
				s.set(func() { s.answer = "" })
				settled(t, p)
				require.Equal(t, []string{"0", "1"}, s.ids())
			})
		})
	}
	t.Run("no answer to a question", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := &storage{mute: true, silent: true}
			p := open(t, s)
			defer p.Close()
			publish(p, 0, 1)
			time.Sleep(time.Hour)
			require.Equal(t, []string{"0", "1"}, s.ids(), "never sent without an answer")
			require.Equal(t, ErrAckTimeout.Error(), p.Stats().Problem)
			s.set(func() { s.mute, s.silent = false, false })
			settled(t, p)
			require.Equal(t, []string{"0", "1"}, s.ids())
		})
	})
}
