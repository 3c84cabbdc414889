package subjects

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Template defines the subjects for the topics of a pattern. It is immutable and safe for
// concurrent use.
type Template struct {
	text    string
	stream  string
	pattern *Pattern
	parts   []part
	tail    string
	derived bool
}

// part is a capture and the literal text before it, dots included.
type part struct {
	literal string
	capture int
	tail    bool // the capture contains several levels, each a token
}

// Template returns the pattern's own template, in which every level is a token, as in [FromTopic].
func (p *Pattern) Template() *Template {
	t := &Template{pattern: p, derived: true}
	for i, l := range p.levels {
		if l.isCapture() {
			t.add(i, "", l.capture)
		} else {
			t.add(i, string(appendToken(nil, []byte(l.literal), i == 0)), -1)
		}
	}
	return t
}

// ParseTemplate parses the subject for the topics of p. A subject consists of tokens between dots,
// each a literal or a {name} from the pattern's captures. Captures may be omitted, reordered or
// repeated. {tenant} and {device} also refer to the fixed names. A {name...} is allowed only at the
// end.
//
// A literal contains only bytes that need no escape. A subject begins neither with $ nor with
// _INBOX. An error contains the token, the column (in bytes from 1) and the correct form.
//
// A template that omits a capture maps several topics to one subject.
func ParseTemplate(text string, p *Pattern) (*Template, error) {
	t := &Template{pattern: p}
	if text == "" {
		return nil, errors.New("parse subject template: it is empty, omit it to get the topic's own subject")
	}
	n := 0
	invalid := func(at int, format string, args ...any) (*Template, error) {
		return nil, fmt.Errorf("parse subject template %q: token %d, column %d: %w",
			text, n+1, at+1, fmt.Errorf(format, args...))
	}
	for at, more := 0, true; more; n++ {
		var token string
		token, more = cutToken(text[at:])
		if n == MaxTokens {
			return invalid(at, "a subject has at most %d tokens", MaxTokens)
		}
		single, tail := cutTail(token)
		name, isCapture, bad, err := parseCapture(single, "token")
		if err != nil {
			return invalid(at+bad, "%w", err)
		}
		c := slices.Index(p.names, name)
		switch fixed := p.fixed(name); {
		case isCapture && c >= 0 && p.isTail(c) != tail:
			return invalid(at, "write it as the topic has it: {%s}", p.captureText(c))
		case isCapture && c >= 0 && tail && more:
			return invalid(at, "{%s...} has any number of levels: it must be at the end", name)
		case isCapture && c >= 0:
			t.add(n, "", c)
		case isCapture && fixed != nil:
			t.add(n, string(appendToken(nil, fixed, n == 0)), -1)
		case isCapture:
			return invalid(at, "{%s} is not a capture of the topic %q, which has %s", name, p.text, braced(p.names))
		default:
			if bad, err := checkLiteral(token, n == 0); err != nil {
				return invalid(at+bad, "%w", err)
			}
			t.add(n, token, -1)
		}
		at += len(token) + 1
	}
	if len(t.stream) > MaxSubjectBytes {
		return nil, fmt.Errorf("parse subject template: its subjects have more than %d bytes", MaxSubjectBytes)
	}
	t.derived = t.text == p.Template().text
	return t, nil
}

// cutToken cuts off the first token. The dots of a {name...} do not separate tokens.
func cutToken(text string) (token string, more bool) {
	if end := strings.Index(text, "...}") + len("...}"); strings.HasPrefix(text, "{") && end > len("...}") &&
		!strings.ContainsAny(text[:end-len("...}")], ".}") {
		after, _, more := strings.Cut(text[end:], ".")
		return text[:end] + after, more
	}
	token, _, more = strings.Cut(text, ".")
	return token, more
}

// checkLiteral reports a byte that a literal token must not contain, and its position.
func checkLiteral(token string, first bool) (bad int, err error) {
	switch {
	case token == "":
		return 0, errors.New("a token cannot be empty: remove a dot or add a token")
	case first && token[0] == '$':
		return 0, errors.New("subjects that begin with $ belong to the server")
	case first && token == reservedToken:
		return 0, errors.New("subjects that begin with _INBOX are reserved for replies")
	}
	for i, r := range token {
		switch {
		case r == '/':
			return i, errors.New("a slash separates a topic's levels, a subject's tokens are separated by dots")
		case r == '*', r == '>':
			return i, fmt.Errorf("%q is a wildcard, which the subject of a message cannot contain: write a capture such as {name} for the whole token", r)
		case escaped[token[i]] == 'x':
			return i, fmt.Errorf("%q is not allowed in a literal token: write printable ASCII other than space and %%", r)
		}
	}
	return 0, nil
}

func braced(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return "{" + strings.Join(names, "}, {") + "}"
}

// add adds token n: the capture, or the literal if capture is -1.
func (t *Template) add(n int, literal string, capture int) {
	if n > 0 {
		literal = "." + literal
	}
	t.text += literal
	t.stream += literal
	t.tail += literal
	if capture < 0 {
		return
	}
	t.text += "{" + t.pattern.captureText(capture) + "}"
	tail := t.pattern.isTail(capture)
	if tail {
		t.stream += ">"
	} else {
		t.stream += "*"
	}
	t.parts = append(t.parts, part{literal: t.tail, capture: capture, tail: tail})
	t.tail = ""
}

// String returns the template as [ParseTemplate] accepts it, except for escapes in the literals of
// a pattern's own template.
func (t *Template) String() string { return t.text }

// Pattern returns the pattern whose captures fill the template.
func (t *Template) Pattern() *Pattern { return t.pattern }

// Reversible reports whether [ToTopic] returns the topic for every subject of the template. Only
// the pattern's own template guarantees that.
func (t *Template) Reversible() bool { return t.derived }

// StreamSubject returns the subject filter for all subjects of the template: * for a capture, > for
// a {name...}. nats-server refuses a stream whose subject begins with * and has more than one
// token, because it would include $SYS (checkStreamCfgLocked in stream.go of 2.15.2). Such a
// template needs one stream per first token.
func (t *Template) StreamSubject() string { return t.stream }

// Append appends the subject for a match of the template's own pattern to dst and returns the
// extended buffer. Captures are escaped as tokens. [CheckSubject] reports whether the subject may
// be published.
func (t *Template) Append(dst []byte, m *Match) []byte {
	for i := range t.parts {
		p := &t.parts[i]
		dst = append(dst, p.literal...)
		first := i == 0 && p.literal == ""
		if p.tail {
			dst = appendLevels(dst, m.captures[p.capture], first)
		} else {
			dst = appendToken(dst, m.captures[p.capture], first)
		}
	}
	return append(dst, t.tail...)
}
