package subjects

import "bytes"

// escaped marks with an x each byte that a token contains only as %XX. It is a constant string, so
// it cannot change and a lookup is one load. A level never contains a slash. The slash is marked so
// that a token always remains one token and ToTopic rejects it.
const escaped = "" +
	"xxxxxxxxxxxxxxxx" + // 00 control bytes
	"xxxxxxxxxxxxxxxx" + // 10
	"x----x----x---xx" + // 20 space % * . /
	"--------------x-" + // 30 >
	"----------------" + // 40
	"----------------" + // 50
	"----------------" + // 60
	"---------------x" + // 70 DEL
	"xxxxxxxxxxxxxxxx" + // 80 outside ASCII
	"xxxxxxxxxxxxxxxx" + // 90
	"xxxxxxxxxxxxxxxx" + // A0
	"xxxxxxxxxxxxxxxx" + // B0
	"xxxxxxxxxxxxxxxx" + // C0
	"xxxxxxxxxxxxxxxx" + // D0
	"xxxxxxxxxxxxxxxx" + // E0
	"xxxxxxxxxxxxxxxx" //   F0

const (
	upperHex     = "0123456789ABCDEF"
	emptyToken   = "%00"
	dollarEscape = "%24"
)

// AppendToken appends one topic level as one subject token and returns the extended buffer. It does
// not know the token's position, so it does not escape a leading $: [AppendSubject] and
// [Template.Append] handle the beginning of a subject.
//
// A NUL is illegal in a topic. A level that consists of one NUL yields the token of the empty
// level; [CheckTopic] detects it.
func AppendToken(dst, level []byte) []byte {
	if len(level) == 0 {
		return append(dst, emptyToken...)
	}
	return appendEscaped(dst, level)
}

// appendEscaped is AppendToken without the rule for an empty level.
func appendEscaped(dst, level []byte) []byte {
	clean := 0 // level[clean:i] needs no escape and is not yet appended
	for i, c := range level {
		if escaped[c] != 'x' {
			continue
		}
		dst = append(dst, level[clean:i]...)
		dst = append(dst, '%', upperHex[c>>4], upperHex[c&0xF])
		clean = i + 1
	}
	return append(dst, level[clean:]...)
}

// appendToken is AppendToken for a known position: first means that the token begins the subject.
func appendToken(dst, level []byte, first bool) []byte {
	if first && len(level) > 0 && level[0] == '$' {
		return appendEscaped(append(dst, dollarEscape...), level[1:])
	}
	return AppendToken(dst, level)
}

// appendLevels appends the levels between slashes as tokens.
func appendLevels(dst, levels []byte, first bool) []byte {
	for {
		end := bytes.IndexByte(levels, '/')
		if end < 0 {
			return appendToken(dst, levels, first)
		}
		dst = append(appendToken(dst, levels[:end], first), '.')
		levels, first = levels[end+1:], false
	}
}

// AppendSubject appends the subject of a topic to dst and returns the extended buffer. It does not
// validate: use [CheckTopic] for the topic and [CheckSubject] for the result.
func AppendSubject(dst, topic []byte) []byte { return appendLevels(dst, topic, true) }

// NeedsEscape reports whether the subject of a topic is more than the topic with dots for slashes.
// An escape is longer than the byte that it encodes, so comparing the length of the topic with that
// of its subject by [AppendSubject] gives the same answer.
func NeedsEscape(topic []byte) bool {
	if len(topic) == 0 || topic[0] == '$' {
		return true
	}
	last := byte('/')
	for _, c := range topic {
		if c == '/' {
			if last == '/' {
				return true
			}
		} else if escaped[c] == 'x' {
			return true
		}
		last = c
	}
	return last == '/'
}
