package subjects

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxCaptures is the maximum number of captures in a pattern.
const MaxCaptures = 8

// Names of the captures that identify a device.
const (
	captureTenant = "tenant"
	captureDevice = "device"
)

// Pattern matches topics and names their variable levels. It is immutable and safe for concurrent
// use.
type Pattern struct {
	text   string
	levels []level
	names  []string
	tenant int // index of the capture; -1: none
	device int
	// tail means that the last level is a capture {name...} of all remaining levels, one or more.
	tail bool
	// Names for topics that do not contain them; see [Pattern.WithDevice].
	fixedTenant, fixedDevice []byte
}

// level is a literal, or the capture with that index.
type level struct {
	literal string
	capture int // -1: literal
}

func (l level) isCapture() bool { return l.capture >= 0 }

// ErrShared means that a pattern begins like a shared subscription.
var ErrShared = errors.New("a shared subscription cannot be part of a pattern")

// ParsePattern parses a pattern of levels between slashes. A level is a literal, which is compared
// byte by byte and may be empty as in MQTT, or a {name}, which matches one whole level with any
// content. The last level may be a {name...}, which matches one or more levels. A name is a
// lower-case letter followed by lower-case letters, digits and underscores, and must be unique in
// the pattern. An error contains the level, the column (in bytes from 1) and the correct form.
func ParsePattern(text string) (*Pattern, error) {
	p := &Pattern{text: text}
	invalid := func(at int, format string, args ...any) (*Pattern, error) {
		return nil, fmt.Errorf("parse topic pattern %q: level %d, column %d: %w",
			text, len(p.levels)+1, at+1, fmt.Errorf(format, args...))
	}
	switch {
	case text == "":
		return nil, errors.New(`parse topic pattern: it is empty, write one such as "tenant/{tenant}/device/{device}/{type}"`)
	case len(text) > MaxSubjectBytes:
		return nil, fmt.Errorf("parse topic pattern: it has %d bytes, a subject has at most %d", len(text), MaxSubjectBytes)
	case !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0:
		return nil, fmt.Errorf("parse topic pattern %q: a topic is UTF-8 without NUL", text)
	}
	for at, more := 0, true; more; {
		var literal string
		literal, _, more = strings.Cut(text[at:], "/")
		if len(p.levels) == MaxTokens {
			return invalid(at, "a pattern has at most %d levels", MaxTokens)
		}
		if p.tail {
			return invalid(at, "{%s...} matches all remaining levels: it must be the last one", p.names[len(p.names)-1])
		}
		if len(p.levels) == 0 && literal == "$share" {
			return invalid(at, "%w", ErrShared)
		}
		single, tail := cutTail(literal)
		name, isCapture, bad, err := parseLevel(single)
		switch {
		case err != nil:
			return invalid(at+bad, "%w", err)
		case !isCapture:
			p.levels = append(p.levels, level{literal: literal, capture: -1})
		case slices.Contains(p.names, name):
			return invalid(at, "{%s} occurs twice, every capture needs its own name", name)
		case len(p.names) == MaxCaptures:
			return invalid(at, "a pattern has at most %d captures", MaxCaptures)
		default:
			p.levels = append(p.levels, level{capture: len(p.names)})
			p.names = append(p.names, name)
			p.tail = tail
		}
		at += len(literal) + 1
	}
	p.tenant = slices.Index(p.names, captureTenant)
	p.device = slices.Index(p.names, captureDevice)
	return p, nil
}

// cutTail turns {name...} into {name}.
func cutTail(text string) (single string, tail bool) {
	if name, ok := strings.CutSuffix(text, "...}"); ok && strings.HasPrefix(name, "{") {
		return name + "}", true
	}
	return text, false
}

// parseLevel distinguishes a {name} from a literal. On an error, bad is its offset in the level.
func parseLevel(text string) (name string, isCapture bool, bad int, err error) {
	if bad = strings.IndexByte(text, '+'); bad >= 0 {
		return "", false, bad, errors.New(`"+" is a filter's wildcard, a pattern names its variable levels: write a capture such as {name} for the whole level`)
	}
	if bad = strings.IndexByte(text, '#'); bad >= 0 {
		return "", false, bad, errors.New(`"#" is a filter's wildcard, write a capture such as {name} for a level, or {rest...} at the end for all remaining levels`)
	}
	return parseCapture(text, "level")
}

// parseCapture distinguishes a {name} from a literal without braces. whole is the word for the unit
// that a capture fills, used in errors.
func parseCapture(text, whole string) (name string, isCapture bool, bad int, err error) {
	if bad = strings.IndexAny(text, "{}"); bad < 0 {
		return "", false, 0, nil
	}
	name, opened := strings.CutPrefix(text, "{")
	name, closed := strings.CutSuffix(name, "}")
	if !opened || !closed || strings.ContainsAny(name, "{}") {
		return "", false, bad, fmt.Errorf("a capture is a whole %s: write {name} and nothing else in it", whole)
	}
	for i, r := range name {
		if r >= 'a' && r <= 'z' || i > 0 && (r >= '0' && r <= '9' || r == '_') {
			continue
		}
		return "", false, 1 + i, fmt.Errorf("%q is not allowed there in a capture's name: write a lower-case letter, then lower-case letters, digits and underscores", r)
	}
	if name == "" {
		return "", false, 0, errors.New("a capture has a name: write {name}")
	}
	return name, true, 0, nil
}

// String returns the pattern as written.
func (p *Pattern) String() string { return p.text }

// Captures returns the names of the captures, from left to right.
func (p *Pattern) Captures() []string { return slices.Clone(p.names) }

// Filter returns the MQTT filter for the pattern's topics: + for a capture, # for {name...}. # also
// matches the topic without any further level [MQTT-4.7.1-2].
func (p *Pattern) Filter() string {
	filter := make([]string, len(p.levels))
	for i, l := range p.levels {
		switch {
		case p.isTail(l.capture):
			filter[i] = "#"
		case l.isCapture():
			filter[i] = "+"
		default:
			filter[i] = l.literal
		}
	}
	return strings.Join(filter, "/")
}

// StreamSubject returns the subject filter for all subjects of the pattern's own template; see
// [Template.StreamSubject].
func (p *Pattern) StreamSubject() string { return p.Template().StreamSubject() }

// WithDevice returns the pattern with fixed names that its topics do not contain. An empty name
// sets nothing. It fails if the pattern captures a given name, or if a name cannot be a level.
func (p *Pattern) WithDevice(tenant, device string) (*Pattern, error) {
	named := *p
	for _, n := range []struct {
		capture string
		index   int
		name    string
		to      *[]byte
	}{{captureTenant, p.tenant, tenant, &named.fixedTenant}, {captureDevice, p.device, device, &named.fixedDevice}} {
		switch {
		case n.name == "":
			continue
		case n.index >= 0:
			return nil, fmt.Errorf("topic pattern %q captures {%s}: leave out either the capture or the fixed name %q", p.text, n.capture, n.name)
		case !utf8.ValidString(n.name) || strings.ContainsAny(n.name, "/+#\x00"):
			return nil, fmt.Errorf("the fixed %s %q cannot be a level of a topic: write UTF-8 without / + # and NUL", n.capture, n.name)
		}
		*n.to = []byte(n.name)
	}
	return &named, nil
}

// fixed returns the fixed name that {name} means in a template; nil if there is none.
func (p *Pattern) fixed(name string) []byte {
	switch name {
	case captureTenant:
		return p.fixedTenant
	case captureDevice:
		return p.fixedDevice
	}
	return nil
}

// isTail reports whether the capture with that index is the {name...}.
func (p *Pattern) isTail(capture int) bool { return p.tail && capture == len(p.names)-1 }

// captureText returns a capture as written between its braces.
func (p *Pattern) captureText(capture int) string {
	if p.isTail(capture) {
		return p.names[capture] + "..."
	}
	return p.names[capture]
}

// NamesDevice reports whether the topics contain the device. Otherwise all topics of a tenant
// belong to the same device.
func (p *Pattern) NamesDevice() bool { return p.device >= 0 }

// RequireDevice returns an error unless the pattern has tenant and device, each captured or fixed.
// Without them nothing can be validated.
func (p *Pattern) RequireDevice() error {
	var missing []string
	if p.tenant < 0 && p.fixedTenant == nil {
		missing = append(missing, "{tenant}")
	}
	if p.device < 0 && p.fixedDevice == nil {
		missing = append(missing, "{device}")
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("topic pattern %q does not identify the device: it lacks %s, as a capture or as a fixed name", p.text, strings.Join(missing, " and "))
}
