package subjects_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/subjects"
)

// path performs a lane's operations on a topic, with reused buffers.
type path struct {
	prefix  *subjects.Prefix
	set     *subjects.Set
	match   subjects.Match
	subject []byte
	cn      []byte
}

func newPath(t require.TestingT) *path {
	return &path{
		prefix:  mustPrefix(t, "bridge/v1"),
		set:     mustSet(t, telemetryPattern, shadowPattern, commandsPattern),
		subject: make([]byte, 0, subjects.MaxSubjectBytes),
		cn:      make([]byte, 0, 256),
	}
}

func (p *path) plain(topic []byte) bool {
	route, ok := p.set.Match(topic, &p.match)
	if !ok {
		return false
	}
	p.subject = p.set.Route(route).Template.Append(p.subject[:0], &p.match)
	return true
}

func (p *path) attested(topic []byte) bool {
	_, rest, err := p.prefix.Cut(topic)
	return err == nil && p.plain(rest)
}

func (p *path) checked(topic []byte) bool {
	a, rest, err := p.prefix.Cut(topic)
	if err != nil {
		return false
	}
	if p.cn, err = subjects.DecodeCN(p.cn[:0], a.CNHex); err != nil || !p.plain(rest) {
		return false
	}
	return p.match.CheckDevice() == nil && subjects.CheckSubject(p.subject) == nil && !subjects.NeedsEscape(rest)
}

func TestTopicAllocs(t *testing.T) {
	p := newPath(t)
	for _, topic := range []string{
		seenTopic,
		"bridge/v1/d/id/1/61/tenant/a.b/device/ü *>/%",
		"bridge/v1/d/id/1/6/tenant/acme/device/dev-1/telemetry",
		"bridge/v1/d/id/1/undefined/tenant/acme/device/dev-1/telemetry",
		"bridge/v1/d/id/1/xyz0/tenant/acme/device//telemetry",
		"bridge/v1/d/id/x/61/t",
		"tenant/acme/device/dev-1/shadow/reported",
		"no/such/route",
	} {
		in := []byte(topic)
		require.Zero(t, testing.AllocsPerRun(100, func() {
			p.plain(in)
			p.attested(in)
			p.checked(in)
			subjects.NeedsEscape(in)
			_ = subjects.CheckTopic(in)
			p.subject = subjects.AppendSubject(p.subject[:0], in)
		}), topic)
	}
}

func BenchmarkTopicToSubject(b *testing.B) {
	plain := []byte("tenant/acme/device/dev-1/telemetry")
	attested := []byte(seenTopic)
	for _, bm := range []struct {
		name  string
		topic []byte
		run   func(*path, []byte) bool
	}{
		{"plain", plain, (*path).plain},
		{"plain escaped", []byte("tenant/acme.eu/device/dev 1/telemetry"), (*path).plain},
		{"attested", attested, (*path).attested},
		{"attested with CN and checks", attested, (*path).checked},
		{"append subject", plain, func(p *path, topic []byte) bool {
			p.subject = subjects.AppendSubject(p.subject[:0], topic)
			return true
		}},
		{"needs escape", plain, func(_ *path, topic []byte) bool { return !subjects.NeedsEscape(topic) }},
	} {
		b.Run(bm.name, func(b *testing.B) {
			p := newPath(b)
			b.ReportAllocs()
			for b.Loop() {
				if !bm.run(p, bm.topic) {
					b.Fatal("the topic was refused")
				}
			}
		})
	}
}
