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
	"mqtt-nats-bridge/internal/testrun"
)

// Stored is one message in the stream.
type Stored struct {
	reconcile.Copy
	Message uint64 // the number in its payload
}

// Verdict is the result of a reconciliation.
type Verdict = reconcile.Verdict

// ledger returns a ledger with the publisher's PUBACKs and the messages of the stream.
func (l *Load) ledger(all []Stored) *reconcile.Ledger {
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
	for _, s := range all {
		if s.Message >= uint64(l.sent) || s.Subject != l.subject(int(s.Message)%l.Devices) {
			books.Foreign(-1, -1, s.Copy)
			continue
		}
		books.Stored(int(s.Message)%l.Devices, int(s.Message)/l.Devices, s.Copy)
	}
	return books
}

// Explain describes the first few findings of Reconcile.
func (l *Load) Explain(all []Stored) string {
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

// Reconcile compares the publisher's PUBACKs with the messages of the stream. If all payloads are
// identical, it only counts the messages per device and cannot check their order.
func (l *Load) Reconcile(all []Stored) Verdict {
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
	var gap time.Duration
	for i, s := range all {
		have[s.Subject]++
		gap = max(gap, s.At.Sub(all[max(i-1, 0)].At))
	}
	v := reconcile.Indistinct(sent, acked, have)
	v.Sent, v.Acked, v.Gap = l.sent, l.acks, gap
	return v
}

// subject returns the subject of the messages of device i.
func (l *Load) subject(i int) string {
	tenant, name := Device(i)
	return "tenant." + tenant + ".device." + name + "." + strings.ReplaceAll(l.Topic, "/", ".")
}

// ReadLoad reads all present messages of a stream in order, except the marker.
func ReadLoad(t testing.TB, js natsjs.JetStream, stream string) []Stored {
	t.Helper()
	var all []Stored
	ReadStream(t, js, stream, func(m natsjs.Msg, meta *natsjs.MsgMetadata) {
		if strings.HasPrefix(m.Subject(), "tenant.proof.device.marker.") || strings.HasPrefix(m.Subject(), PartitionMarker) {
			return
		}
		s := Stored{Message: ^uint64(0), Copy: reconcile.Copy{
			Subject: m.Subject(), ID: m.Headers().Get(natsjs.MsgIDHeader), At: meta.Timestamp, Place: meta.Sequence.Stream,
		}}
		if len(m.Data()) >= 8 {
			s.Message = binary.BigEndian.Uint64(m.Data())
		}
		all = append(all, s)
	})
	return all
}

// ReadStream calls take with each present message of a stream, in order.
func ReadStream(t testing.TB, js natsjs.JetStream, stream string, take func(natsjs.Msg, *natsjs.MsgMetadata)) {
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
	defer func() { // otherwise the consumers of a test that polls would reach the account's limit
		messages.Stop()
		_ = js.DeleteConsumer(context.WithoutCancel(t.Context()), stream, consumer.CachedInfo().Name)
	}()
	for ; left > 0; left-- {
		m, err := messages.Next(natsjs.NextMaxWait(testrun.Timeout))
		require.NoError(t, err)
		meta, err := m.Metadata()
		require.NoError(t, err)
		take(m, meta)
	}
}

// PartitionMarker is the subject prefix of the markers that follow a load in each partition.
const PartitionMarker = "tenant.proof.device.marker-"
