package subjects

import (
	"bytes"
	"math"
	"slices"
)

// Match contains the captures of one topic. They are slices of that topic and valid as long as the
// topic. The zero value is ready to use, and a Match can be reused for any number of topics.
type Match struct {
	pattern  *Pattern
	captures [MaxCaptures][]byte
}

// Pattern returns the pattern that matched; nil before the first match.
func (m *Match) Pattern() *Pattern { return m.pattern }

// Len returns the number of captures.
func (m *Match) Len() int {
	if m.pattern == nil {
		return 0
	}
	return len(m.pattern.names)
}

// At returns the capture with that index, counted from the left. It panics unless the index is at
// least 0 and below [Match.Len].
func (m *Match) At(i int) []byte { return m.captures[:m.Len()][i] }

// Get returns the capture with that name; nil if the pattern has none.
func (m *Match) Get(name string) []byte {
	if m.pattern == nil {
		return nil
	}
	if i := slices.Index(m.pattern.names, name); i >= 0 {
		return m.captures[i]
	}
	return nil
}

// Tenant returns the capture {tenant} or the pattern's fixed name; nil if it has neither.
func (m *Match) Tenant() []byte {
	switch {
	case m.pattern == nil:
		return nil
	case m.pattern.tenant < 0:
		return m.pattern.fixedTenant
	}
	return m.captures[m.pattern.tenant]
}

// Device returns the capture {device} or the pattern's fixed name; nil if it has neither.
func (m *Match) Device() []byte {
	switch {
	case m.pattern == nil:
		return nil
	case m.pattern.device < 0:
		return m.pattern.fixedDevice
	}
	return m.captures[m.pattern.device]
}

// CheckDevice returns [ErrTenantEmpty] or [ErrDeviceEmpty] if a level is empty instead of a name.
// MQTT's + matches an empty level [MQTT-4.7.1-3], and so does a capture.
func (m *Match) CheckDevice() error {
	if len(m.Tenant()) == 0 {
		return ErrTenantEmpty
	}
	if len(m.Device()) == 0 {
		return ErrDeviceEmpty
	}
	return nil
}

// Match reports whether the pattern matches a topic. Only if it does, it writes the captures to m.
// Like [Pattern.Filter], a pattern that begins with a capture does not match topics that begin with
// $ [MQTT-4.7.2-1]. A topic with a NUL matches no pattern.
func (p *Pattern) Match(topic []byte, m *Match) bool {
	var s split
	if !s.split(topic) || !p.matches(topic, &s) {
		return false
	}
	p.capture(topic, &s, m)
	return true
}

// split contains the end of each level of a topic.
type split struct {
	n    int
	ends [MaxTokens]uint16
}

// split locates the levels. It returns false for a topic that no pattern matches: an empty topic,
// one with a NUL or more than MaxTokens levels, or one longer than an MQTT topic can be.
func (s *split) split(topic []byte) bool {
	if len(topic) == 0 || len(topic) > math.MaxUint16 || bytes.IndexByte(topic, 0) >= 0 {
		return false
	}
	s.n = 0
	for at := 0; s.n < MaxTokens; s.n++ {
		end := bytes.IndexByte(topic[at:], '/')
		if end < 0 {
			s.ends[s.n] = uint16(len(topic))
			s.n++
			return true
		}
		s.ends[s.n] = uint16(at + end)
		at += end + 1
	}
	return false
}

// begin returns the beginning of the level with that index.
func (s *split) begin(i int) int {
	if i == 0 {
		return 0
	}
	return int(s.ends[i-1]) + 1
}

// level returns the level with that index.
func (s *split) level(topic []byte, i int) []byte { return topic[s.begin(i):s.ends[i]] }

// matchesCount reports whether the pattern matches topics of n levels.
func (p *Pattern) matchesCount(n int) bool { return n == len(p.levels) || p.tail && n > len(p.levels) }

// levelAt returns the pattern level that applies to level i of a topic.
func (p *Pattern) levelAt(i int) level { return p.levels[min(i, len(p.levels)-1)] }

// matches compares the number of levels and the literals.
func (p *Pattern) matches(topic []byte, s *split) bool {
	if !p.matchesCount(s.n) {
		return false
	}
	for i := range p.levels {
		l := &p.levels[i]
		if l.isCapture() {
			if i == 0 && topic[0] == '$' {
				return false
			}
		} else if string(s.level(topic, i)) != l.literal {
			return false
		}
	}
	return true
}

// capture writes the captures of a matching topic.
func (p *Pattern) capture(topic []byte, s *split, m *Match) {
	m.pattern = p
	for i := range p.levels {
		if c := p.levels[i].capture; c >= 0 {
			m.captures[c] = s.level(topic, i)
		}
	}
	if p.tail {
		last := len(p.levels) - 1
		m.captures[p.levels[last].capture] = topic[s.begin(last):]
	}
}
