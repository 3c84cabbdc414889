package schema

import (
	"fmt"
	"io"
)

const redacted = "(redacted)"

// Secret is a text that no formatting verb, log or encoder shows. The text
// itself comes only from Reveal.
type Secret struct{ text string }

// Reveal is the text in clear.
func (s Secret) Reveal() string { return s.text }

// IsZero reports whether there is none.
func (s Secret) IsZero() bool { return s.text == "" }

// String is "(redacted)", or empty where there is no secret.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return redacted
}

// Format keeps every verb, %#v and %x included, from showing the text.
func (s Secret) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, s.String()) }

// MarshalText keeps encoders (JSON, YAML) from showing the text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// NewSecret returns the secret that text is.
func NewSecret(text string) Secret { return Secret{text} }

// Kind implements the kind of a leaf.
func (s *Secret) Kind() string { return "secret" }

// Parse implements the reading of a leaf.
func (s *Secret) Parse(text string) error {
	s.text = text
	return nil
}
