package schema

import (
	"fmt"
	"io"
)

const redacted = "(redacted)"

// Secret is a text that no formatting verb, log or encoder reveals. Only Reveal returns the text.
type Secret struct{ text string }

// Reveal returns the clear text.
func (s Secret) Reveal() string { return s.text }

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return s.text == "" }

// String returns "(redacted)", or empty text if the secret is empty.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return redacted
}

// Format prevents every verb, including %#v and %x, from revealing the text.
func (s Secret) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, s.String()) }

// MarshalText prevents encoders (JSON, YAML) from revealing the text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// NewSecret returns text as a Secret.
func NewSecret(text string) Secret { return Secret{text} }

// Kind returns the name of the type in the reference.
func (s *Secret) Kind() string { return "secret" }

// Parse reads the value of a leaf.
func (s *Secret) Parse(text string) error {
	s.text = text
	return nil
}
