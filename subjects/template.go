package subjects

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Template says which subject the topics of a pattern get. It is immutable and
// safe for concurrent use.
type Template struct {
	text    string
	stream  string
	pattern *Pattern
	parts   []part
	tail    string
	derived bool
}

// part is a capture and the literal text before it, its dots included.
type part struct {
	literal string
	capture int
}

// Template is the pattern's own template: every level a token, as [FromTopic]
// maps them.
func (p *Pattern) Template() *Template {
	t := &Template{pattern: p, derived: true}
	for i, l := range p.levels {
		switch {
		case l.isCapture():
			t.add(i, "", l.capture)
		case i == 0:
			t.add(i, string(appendFirst(nil, []byte(l.literal))), -1)
		default:
			t.add(i, string(AppendToken(nil, []byte(l.literal))), -1)
		}
	}
	return t
}

// ParseTemplate reads the subject for the topics of p: tokens between dots, each
// a literal or a {name} of the pattern's captures, which may be left out, stand
// in another order or more than once. A literal holds only bytes that need no
// escape, and a subject begins neither with $ nor with _INBOX. An error says the
// token and the column, counted in bytes from 1, and what would be right.
//
// A template that leaves a capture out gives several topics one subject.
func ParseTemplate(text string, p *Pattern) (*Template, error) {
	t := &Template{pattern: p}
	if text == "" {
		return nil, errors.New("parse subject template: it is empty, leave it out to get the topic's own subject")
	}
	n := 0
	fault := func(at int, format string, args ...any) (*Template, error) {
		return nil, fmt.Errorf("parse subject template %q: token %d, column %d: %w",
			text, n+1, at+1, fmt.Errorf(format, args...))
	}
	for at, more := 0, true; more; n++ {
		var token string
		token, _, more = strings.Cut(text[at:], ".")
		if n == MaxTokens {
			return fault(at, "a subject has at most %d tokens", MaxTokens)
		}
		name, isCapture, bad, err := parseCapture(token, "token")
		if err != nil {
			return fault(at+bad, "%w", err)
		}
		if isCapture {
			c := slices.Index(p.names, name)
			if c < 0 {
				return fault(at, "{%s} is not a capture of the topic %q, which has %s", name, p.text, braced(p.names))
			}
			t.add(n, "", c)
		} else {
			if bad, err := checkLiteral(token, n == 0); err != nil {
				return fault(at+bad, "%w", err)
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

// checkLiteral reports what a literal token must not hold, and where.
func checkLiteral(token string, first bool) (bad int, err error) {
	switch {
	case token == "":
		return 0, errors.New("a token is not empty: remove a dot or write something")
	case first && token[0] == '$':
		return 0, errors.New("subjects that begin with $ belong to the server")
	case first && token == reservedToken:
		return 0, errors.New("subjects that begin with _INBOX belong to replies")
	}
	for i, r := range token {
		switch {
		case r == '/':
			return i, errors.New("a slash separates a topic's levels, a subject's tokens are separated by dots")
		case r == '*', r == '>':
			return i, fmt.Errorf("%q is a wildcard, a message has a subject without: write a capture such as {name} for the whole token", r)
		case escaped[token[i]] == 'x':
			return i, fmt.Errorf("%q cannot stand in a literal token: printable ASCII without space and %% can", r)
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

// add adds token n: the capture, or the literal where that is -1.
func (t *Template) add(n int, literal string, capture int) {
	if n > 0 {
		t.text += "."
		t.stream += "."
		t.tail += "."
	}
	if capture < 0 {
		t.text += literal
		t.stream += literal
		t.tail += literal
		return
	}
	t.text += "{" + t.pattern.names[capture] + "}"
	t.stream += "*"
	t.parts = append(t.parts, part{literal: t.tail, capture: capture})
	t.tail = ""
}

// String is the template as [ParseTemplate] reads it, but for escapes in the
// literals of a pattern's own template.
func (t *Template) String() string { return t.text }

// Pattern is the pattern whose captures fill the template.
func (t *Template) Pattern() *Pattern { return t.pattern }

// Reversible reports whether [ToTopic] gives the topic back from every subject
// of the template. Only the pattern's own template promises that.
func (t *Template) Reversible() bool { return t.derived }

// StreamSubject is the subject filter that takes all subjects of the template:
// * for a capture. nats-server refuses a stream whose subject begins with * and
// has more than one token, since that takes $SYS in (checkStreamCfgLocked in
// stream.go of 2.15.2); such a template needs a stream for each first token.
func (t *Template) StreamSubject() string { return t.stream }

// Append appends the subject of a match of the template's own pattern, captures
// escaped as tokens, whatever stands in dst before it, and returns the extended
// buffer. [CheckSubject] says whether it is fit to be published.
func (t *Template) Append(dst []byte, m *Match) []byte {
	for i := range t.parts {
		p := &t.parts[i]
		dst = append(dst, p.literal...)
		if i == 0 && p.literal == "" {
			dst = appendFirst(dst, m.captures[p.capture])
		} else {
			dst = AppendToken(dst, m.captures[p.capture])
		}
	}
	return append(dst, t.tail...)
}
