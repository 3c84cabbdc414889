package proof

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/reconcile"
)

// stored is one message as the stream has it.
type stored struct {
	subject string
	message uint64 // the number in its payload
	id      string // Nats-Msg-Id
	at      time.Time
}

func (s stored) String() string {
	return fmt.Sprintf("message %d of %s, id %s, at %s", s.message, s.subject, s.id, s.at.UTC().Format("15:04:05.000"))
}

// verdict is what became of a load.
type verdict = reconcile.Verdict

// ledger has what the publisher knows and what the stream has.
func (l *load) ledger(all []stored) *reconcile.Ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	books := reconcile.New(l.Devices)
	for i := range l.sent {
		for range l.sends[i] {
			books.Sent(i%l.Devices, i/l.Devices)
		}
		for range l.pubacks[i] {
			books.Acked(i%l.Devices, i/l.Devices, time.Time{})
		}
	}
	for place, s := range all {
		c := reconcile.Copy{Subject: s.subject, ID: s.id, At: s.at, Place: uint64(place)}
		if s.message >= uint64(l.sent) || s.subject != l.subject(int(s.message)%l.Devices) {
			books.Foreign(-1, -1, c)
			continue
		}
		books.Stored(int(s.message)%l.Devices, int(s.message)/l.Devices, c)
	}
	return books
}

// explain names the first few messages that judge found fault with.
func (l *load) explain(all []stored) string {
	const few = 12
	books := l.ledger(all)
	var said []string
	for _, f := range append(books.Findings(), books.Lost()...) {
		said = append(said, f.String())
	}
	if len(said) > few {
		said = append(said[:few], fmt.Sprintf("and %d more", len(said)-few))
	}
	return strings.Join(said, "\n")
}

// judge reconciles what the publisher knows with what the stream has. Where all payloads
// are the same, messages are not to be told apart: it counts them for each device, and
// order says nothing.
func (l *load) judge(all []stored) verdict {
	if !l.Identical {
		return l.ledger(all).Verdict()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	sent, acked, have := map[string]int{}, map[string]int{}, map[string]int{}
	for i := range l.sent {
		sent[l.subject(i%l.Devices)] += int(l.sends[i])
		acked[l.subject(i%l.Devices)] += int(l.pubacks[i])
	}
	v := verdict{}
	for i, s := range all {
		have[s.subject]++
		if i > 0 {
			v.Gap = max(v.Gap, s.at.Sub(all[i-1].at))
		}
	}
	gap := v.Gap
	v = reconcile.Indistinct(sent, acked, have)
	v.Sent, v.Acked, v.Gap = l.sent, l.acks, gap
	return v
}

// subject is where messages of device i belong.
func (l *load) subject(i int) string {
	tenant, name := device(i)
	return "tenant." + tenant + ".device." + name + "." + strings.ReplaceAll(l.Topic, "/", ".")
}

// readLoad reads a stream from its first message to the last of this moment, in
// order, but for the marker.
func readLoad(t testing.TB, js natsjs.JetStream, stream string) []stored {
	t.Helper()
	var all []stored
	readStream(t, js, stream, func(m natsjs.Msg, meta *natsjs.MsgMetadata) {
		if strings.HasPrefix(m.Subject(), "tenant.proof.device.marker.") || strings.HasPrefix(m.Subject(), partitionMarker) {
			return
		}
		s := stored{subject: m.Subject(), message: ^uint64(0), id: m.Headers().Get(natsjs.MsgIDHeader), at: meta.Timestamp}
		if len(m.Data()) >= 8 {
			s.message = binary.BigEndian.Uint64(m.Data())
		}
		all = append(all, s)
	})
	return all
}

func readStream(t testing.TB, js natsjs.JetStream, stream string, take func(natsjs.Msg, *natsjs.MsgMetadata)) {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	require.NoError(t, err)
	left := s.CachedInfo().State.Msgs
	if left == 0 {
		return
	}
	consumer, err := js.OrderedConsumer(t.Context(), stream, natsjs.OrderedConsumerConfig{})
	require.NoError(t, err)
	messages, err := consumer.Messages(natsjs.PullMaxMessages(5000))
	require.NoError(t, err)
	defer func() { // or the consumers of a test that polls reach the account's limit
		messages.Stop()
		_ = js.DeleteConsumer(context.WithoutCancel(t.Context()), stream, consumer.CachedInfo().Name)
	}()
	for ; left > 0; left-- {
		m, err := messages.Next(natsjs.NextMaxWait(patience))
		require.NoError(t, err)
		meta, err := m.Metadata()
		require.NoError(t, err)
		take(m, meta)
	}
}

// The counting itself is tested where it is: internal/reconcile.
func TestVerdictOfALoad(t *testing.T) {
	t.Parallel()
	// Two devices, six messages; the last has no PUBACK.
	l := &load{loadOptions: loadOptions{Devices: 2, Total: 6, Topic: "x"}, sent: 6, acks: 5,
		sends: []uint8{1, 1, 1, 1, 1, 1}, pubacks: []uint8{1, 1, 1, 1, 1, 0}}
	stream := func(messages ...uint64) (all []stored) {
		for i, m := range messages {
			all = append(all, stored{subject: l.subject(int(m) % 2), message: m, at: time.Unix(int64(i), 0)})
		}
		return all
	}
	for name, c := range map[string]struct {
		stream []stored
		want   verdict
	}{
		"all there":             {stream(1, 0, 3, 5, 2, 4), verdict{Stored: 6}},
		"lost and twice":        {stream(0, 1, 3, 4, 5, 5), verdict{Stored: 6, Lost: 1, Duplicated: 1}},
		"overtaken":             {stream(2, 1, 4, 0, 3, 5), verdict{Stored: 6, Inversions: 1}},
		"not of this load":      {stream(0, 1, 2, 3, 4, 6), verdict{Stored: 6, Foreign: 1}},
		"under another subject": {append(stream(0, 1, 2, 3), stored{subject: l.subject(1), message: 4, at: time.Unix(4, 0)}), verdict{Stored: 5, Lost: 1, Foreign: 1}},
	} {
		c.want.Sent, c.want.Acked, c.want.Gap = 6, 5, time.Second
		require.Equal(t, c.want, l.judge(c.stream), name)
	}
	l.Identical = true
	all := append(stream(0, 0, 0, 0, 1), stored{subject: "another", at: time.Unix(5, 0)})
	require.Equal(t, verdict{Sent: 6, Acked: 5, Stored: 6, Lost: 1, Duplicated: 1, Foreign: 1, Gap: time.Second}, l.judge(all))
}
