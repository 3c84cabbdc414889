package publish_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/jetstream/publish"
)

// forgetful is a stream with a deduplication window of a tenth of a second.
func forgetful(c *natsjs.StreamConfig) { c.Duplicates = 100 * time.Millisecond }

func asking(o *publish.Options) {
	o.Lookup = &publish.LookupOptions{API: "$JS.API", Window: func() time.Duration { return 100 * time.Millisecond }, StreamOf: func(subject string) string {
		if strings.HasPrefix(subject, "t.") {
			return "T"
		}
		return ""
	}}
}

// storeAndForget stores numbered messages on two subjects and waits until their ids have left the
// deduplication window. first is a time before the first message.
func storeAndForget(t *testing.T, js natsjs.JetStream, s natsjs.Stream, numbers ...int) (first int64) {
	t.Helper()
	first = time.Now().UnixNano()
	for _, n := range numbers {
		_, err := js.Publish(natstest.Context(t), subjectOf(n), fmt.Append(nil, n), natsjs.WithMsgID(fmt.Sprint("id-", n)))
		require.NoError(t, err)
	}
	// The ids have expired once the stream accepts an id of the same age again.
	_, err := js.Publish(natstest.Context(t), "t.probe", nil, natsjs.WithMsgID("probe"))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		ack, err := js.Publish(natstest.Context(t), "t.probe", nil, natsjs.WithMsgID("probe"))
		return err == nil && !ack.Duplicate
	}, testrun.Timeout, 10*time.Millisecond)
	require.NoError(t, s.Purge(natstest.Context(t), natsjs.WithPurgeSubject("t.probe")))
	return first
}

func subjectOf(n int) string { return fmt.Sprint("t.", n%2) }

func contents(t *testing.T, s natsjs.Stream) (all []string) {
	t.Helper()
	info, err := s.Info(natstest.Context(t))
	require.NoError(t, err)
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		if m, err := s.GetMsg(natstest.Context(t), seq); err == nil {
			all = append(all, string(m.Data))
		}
	}
	return all
}

func TestLookup(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		subject string
		change  func(*publish.Options)
	}{
		"without lookups it is stored twice": {subjectOf(0), func(*publish.Options) {}},
		"another subject, a known limit":     {"t.other", asking},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := natstest.StartServer(t, nil)
			js := natstest.JetStream(t, server)
			s := stream(t, js, forgetful)
			first := storeAndForget(t, js, s, 0)
			o := natstest.NewOutcomes(t)
			p := publisher(t, server.URL(), o, c.change)
			p.Publish(&bridge.Message{Token: 0, Subject: []byte(c.subject), ID: []byte("id-0"), Payload: []byte("0"), FirstAttempt: first})
			require.False(t, o.Wait(1)[0].Duplicate)
			require.Equal(t, []string{"0", "0"}, contents(t, s))
		})
	}
	publish := func(p *publish.Publisher, first int64, numbers ...int) {
		for _, n := range numbers {
			p.Publish(&bridge.Message{
				Token: uint64(n), Subject: []byte(subjectOf(n)), ID: fmt.Append(nil, "id-", n), Payload: fmt.Append(nil, n), FirstAttempt: first,
			})
		}
	}
	t.Run("stored and forgotten", func(t *testing.T) {
		t.Parallel()
		server := natstest.StartServer(t, nil)
		js := natstest.JetStream(t, server)
		s := stream(t, js, forgetful)
		first := storeAndForget(t, js, s, 0, 1, 2, 3, 4)
		o := natstest.NewOutcomes(t)
		p := publisher(t, server.URL(), o, asking)
		publish(p, first, 0, 1, 2, 3, 4, 5, 6)
		publish(p, 0, 7, 8)
		duplicates := 0
		for _, x := range o.Wait(9) {
			require.NoError(t, x.Refused)
			if x.Duplicate {
				duplicates++
			}
		}
		require.Equal(t, 5, duplicates)
		require.Equal(t, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8"}, contents(t, s))
		require.EqualValues(t, 5, p.Stats().Found)
	})
	t.Run("no permission", func(t *testing.T) {
		t.Parallel()
		server := natstest.StartServer(t, func(o *natsd.Options) {
			o.Users = []*natsd.User{{Username: "all"}, {Username: "bridge", Permissions: &natsd.Permissions{
				Publish: &natsd.SubjectPermission{Allow: []string{"t.>"}},
			}}}
		})
		nc, err := nats.Connect(server.URL(), nats.UserInfo("all", ""))
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		js, err := natsjs.New(nc)
		require.NoError(t, err)
		s := stream(t, js, forgetful)
		first := storeAndForget(t, js, s, 0)
		o := natstest.NewOutcomes(t)
		p := publisher(t, strings.Replace(server.URL(), "://", "://bridge:@", 1), o, asking)
		publish(p, first, 0, 1)
		o.Wait(2)
		require.Equal(t, []string{"0", "0", "1"}, contents(t, s), "the old limit")
		require.Contains(t, p.Stats().LookupProblem, "permissions violation")
		require.Empty(t, p.Stats().Problem)
	})
	t.Run("a stream that nobody names", func(t *testing.T) {
		t.Parallel()
		server := natstest.StartServer(t, nil)
		js := natstest.JetStream(t, server)
		s := stream(t, js, forgetful, func(c *natsjs.StreamConfig) { c.Subjects = []string{"u.>"} })
		o := natstest.NewOutcomes(t)
		p := publisher(t, server.URL(), o, asking)
		p.Publish(&bridge.Message{Subject: []byte("u.x"), ID: []byte("x"), Payload: []byte("x"), FirstAttempt: 1})
		o.Wait(1)
		require.Equal(t, []string{"x"}, contents(t, s))
	})
	t.Run("more than can be asked within the window", func(t *testing.T) {
		t.Parallel()
		server := natstest.StartServer(t, nil)
		s := stream(t, natstest.JetStream(t, server), forgetful)
		o := natstest.NewOutcomes(t)
		p := publisher(t, server.URL(), o, asking)
		const n = 4000
		for i := range n {
			p.Publish(&bridge.Message{
				Token: uint64(i), Subject: fmt.Append(nil, "t.", i), ID: fmt.Append(nil, i), Payload: fmt.Append(nil, i), FirstAttempt: 1,
			})
		}
		o.Wait(n)
		requireExactly(t, s, n)
	})
	t.Run("purged in between", func(t *testing.T) {
		t.Parallel()
		server := natstest.StartServer(t, nil)
		js := natstest.JetStream(t, server)
		s := stream(t, js, forgetful)
		first := storeAndForget(t, js, s, 0, 1)
		require.NoError(t, s.Purge(natstest.Context(t)))
		o := natstest.NewOutcomes(t)
		publish(publisher(t, server.URL(), o, asking), first, 0, 1)
		o.Wait(2)
		require.Equal(t, []string{"0", "1"}, contents(t, s), "what a stream no longer has is stored again")
	})
}
