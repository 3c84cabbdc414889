package proof

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
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
type verdict struct {
	Sent, Acked, Stored int
	// Lost were acknowledged to the publisher and are not stored.
	Lost int
	// Duplicated counts every copy beyond as many as were published: one,
	// unless the publisher itself sent again.
	Duplicated int
	// Inversions counts messages stored after a later one of their device;
	// further copies do not count here.
	Inversions int
	// Foreign messages are not of this load, or under another's subject.
	Foreign int
	// Quarantined is how many messages are in quarantine, whosoever.
	Quarantined int
	// Gap is the longest time between two that were stored one after the
	// other.
	Gap time.Duration
}

func (v verdict) clean() bool {
	return v.Lost == 0 && v.Duplicated == 0 && v.Inversions == 0 && v.Foreign == 0
}

func (v verdict) String() string {
	return fmt.Sprintf("%8d sent %8d acked %8d stored %6d lost %6d duplicated %6d inverted %4d foreign %4d quarantined %8.1f s gap",
		v.Sent, v.Acked, v.Stored, v.Lost, v.Duplicated, v.Inversions, v.Foreign, v.Quarantined, v.Gap.Seconds())
}

// explain names the first few messages of a stream that judge found fault with.
func (l *load) explain(all []stored) string {
	const few = 12
	l.mu.Lock()
	defer l.mu.Unlock()
	var said []string
	copies := make([]int, l.Total)
	latest := make(map[string]stored, l.Devices)
	for i, s := range all {
		if s.message >= uint64(l.sent) {
			continue
		}
		copies[s.message]++
		if copies[s.message] > int(l.sends[s.message]) {
			said = append(said, fmt.Sprintf("place %d, once too often: %v", i, s))
		}
		if last := latest[s.subject]; copies[s.message] == 1 && last.message > s.message {
			said = append(said, fmt.Sprintf("place %d, overtaken: %v; by %v", i, s, last))
		} else if copies[s.message] == 1 {
			latest[s.subject] = s
		}
	}
	for i, n := range copies {
		if int(l.pubacks[i]) > n {
			said = append(said, fmt.Sprintf("acknowledged and not stored: message %d", i))
		}
	}
	if len(said) > few {
		said = append(said[:few], fmt.Sprintf("and %d more", len(said)-few))
	}
	return strings.Join(said, "\n")
}

// judge holds what the publisher knows against what the stream has: of each
// message as many copies as got a PUBACK at least, as many as were published at
// most. A message without PUBACK may be stored or not. Where all payloads are
// the same, messages are not to be told apart: it counts them for each device,
// and order says nothing.
func (l *load) judge(all []stored) verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := verdict{Sent: l.sent, Acked: l.acks, Stored: len(all)}
	for i := 1; i < len(all); i++ {
		v.Gap = max(v.Gap, all[i].at.Sub(all[i-1].at))
	}
	if l.Identical {
		l.countDevices(all, &v)
		return v
	}
	copies := make([]int, l.Total)
	latest := make(map[string]uint64, l.Devices)
	for _, s := range all {
		if s.message >= uint64(l.sent) || s.subject != l.subject(int(s.message)%l.Devices) {
			v.Foreign++
			continue
		}
		copies[s.message]++
		if copies[s.message] > 1 {
			if copies[s.message] > int(l.sends[s.message]) {
				v.Duplicated++
			}
			continue
		}
		if last, ok := latest[s.subject]; ok && last > s.message {
			v.Inversions++
			continue
		}
		latest[s.subject] = s.message
	}
	for i, n := range copies {
		v.Lost += max(0, int(l.pubacks[i])-n)
	}
	return v
}

func (l *load) countDevices(all []stored, v *verdict) {
	sent, acked := make([]int, l.Devices), make([]int, l.Devices)
	for i := range l.sent {
		sent[i%l.Devices] += int(l.sends[i])
		acked[i%l.Devices] += int(l.pubacks[i])
	}
	have := make(map[string]int, l.Devices)
	for _, s := range all {
		have[s.subject]++
	}
	for d := range l.Devices {
		n := have[l.subject(d)]
		delete(have, l.subject(d))
		v.Lost += max(0, acked[d]-n)
		v.Duplicated += max(0, n-sent[d])
	}
	for _, n := range have {
		v.Foreign += n
	}
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
		if m.Subject() == markerSubject || strings.HasPrefix(m.Subject(), partitionMarker) {
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
	defer messages.Stop()
	for ; left > 0; left-- {
		m, err := messages.Next(natsjs.NextMaxWait(patience))
		require.NoError(t, err)
		meta, err := m.Metadata()
		require.NoError(t, err)
		take(m, meta)
	}
}

func TestVerdictSeesWhatWentWrong(t *testing.T) {
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
		"all there":             {stream(0, 1, 2, 3, 4, 5), verdict{Stored: 6}},
		"not acknowledged":      {stream(0, 1, 2, 3, 4), verdict{Stored: 5}},
		"another device first":  {stream(1, 0, 3, 5, 2, 4), verdict{Stored: 6}},
		"lost":                  {stream(0, 1, 3, 4, 5), verdict{Stored: 5, Lost: 1}},
		"stored twice":          {stream(0, 1, 2, 3, 4, 5, 2, 5), verdict{Stored: 8, Duplicated: 2}},
		"overtaken":             {stream(2, 1, 4, 0, 3, 5), verdict{Stored: 6, Inversions: 1}},
		"not of this load":      {stream(0, 1, 2, 3, 4, 6), verdict{Stored: 6, Foreign: 1}},
		"nothing":               {nil, verdict{Lost: 5}},
		"under another subject": {append(stream(0, 1, 2, 3), stored{subject: l.subject(1), message: 4, at: time.Unix(4, 0)}), verdict{Stored: 5, Lost: 1, Foreign: 1}},
	} {
		want := c.want
		want.Sent, want.Acked = 6, 5
		if len(c.stream) > 0 {
			want.Gap = time.Second
		}
		got := l.judge(c.stream)
		require.Equal(t, want, got, name)
		require.Equal(t, want.Lost+want.Duplicated+want.Inversions+want.Foreign == 0, got.clean(), name)
	}
	// Message 2 was published twice and acknowledged twice, message 4 once only.
	l.sends, l.pubacks = []uint8{1, 1, 2, 1, 2, 1}, []uint8{1, 1, 2, 1, 1, 0}
	for name, c := range map[string]struct {
		stream []stored
		want   verdict
	}{
		"as often as sent":    {stream(0, 1, 2, 3, 4, 5, 2, 4), verdict{}},
		"the resent only":     {stream(0, 1, 2, 3, 4, 2), verdict{}},
		"one of two":          {stream(0, 1, 2, 3, 4), verdict{Lost: 1}},
		"once more than sent": {stream(0, 1, 2, 3, 4, 2, 2), verdict{Duplicated: 1}},
	} {
		c.want.Sent, c.want.Acked, c.want.Stored, c.want.Gap = 6, 5, len(c.stream), time.Second
		require.Equal(t, c.want, l.judge(c.stream), name)
	}
	l.sends, l.pubacks = []uint8{1, 1, 1, 1, 1, 1}, []uint8{1, 1, 1, 1, 1, 0}
	l.Identical = true
	for name, c := range map[string]struct {
		first, second int // copies that device 0 and device 1 have in the stream
		want          verdict
	}{
		"all there":        {3, 3, verdict{}},
		"not acknowledged": {3, 2, verdict{}},
		"lost":             {2, 1, verdict{Lost: 2}},
		"stored twice":     {4, 5, verdict{Duplicated: 3}},
		"one each":         {4, 1, verdict{Duplicated: 1, Lost: 1}},
	} {
		var all []stored
		for range c.first {
			all = append(all, stored{subject: l.subject(0)})
		}
		for range c.second {
			all = append(all, stored{subject: l.subject(1)})
		}
		c.want.Sent, c.want.Acked, c.want.Stored = 6, 5, len(all)
		require.Equal(t, c.want, l.judge(all), name)
	}
}
