package subjects

import (
	"bytes"
	"fmt"
	"strings"
)

const (
	// MaxTokens is the maximum number of tokens in a subject, and so of levels in a topic.
	// nats-server 2.15.2 splits subjects in a buffer of 32 tokens (client.go, tsa) and allocates
	// for each message beyond that.
	MaxTokens = 32
	// MaxSubjectBytes is the maximum length of a subject. nats-server limits a protocol line, which
	// also contains the reply subject, to 4,096 bytes by default.
	MaxSubjectBytes = 1024
)

// reservedToken is the first token of reply subjects. It is nats.go's default inbox prefix, which
// the shipped permissions allow.
const reservedToken = "_INBOX"

// FromTopic returns the subject of a topic. It fails with [ErrTopicEmpty], [ErrTopicNUL],
// [ErrTooManyTokens] or [ErrSubjectTooLong].
func FromTopic(topic string) (string, error) {
	if len(topic) > MaxSubjectBytes {
		return "", ErrSubjectTooLong
	}
	t := []byte(topic)
	if err := CheckTopic(t); err != nil {
		return "", err
	}
	subject := AppendSubject(make([]byte, 0, len(t)+len(t)/2), t)
	if err := checkLimits(subject); err != nil {
		return "", err
	}
	return string(subject), nil
}

// CheckTopic returns an error if a topic cannot be mapped because it is empty or contains a NUL. +
// and # are invalid in a topic name too [MQTT-3.3.2-2]. The broker enforces that, so the mapping
// supports them.
func CheckTopic(topic []byte) error {
	if len(topic) == 0 {
		return ErrTopicEmpty
	}
	if bytes.IndexByte(topic, 0) >= 0 {
		return ErrTopicNUL
	}
	return nil
}

// CheckSubject returns an error if an appended subject must not be published: [ErrTooManyTokens],
// [ErrSubjectTooLong] or [ErrSubjectReserved].
func CheckSubject(subject []byte) error {
	if err := checkLimits(subject); err != nil {
		return err
	}
	if rest, ok := bytes.CutPrefix(subject, []byte(reservedToken)); ok && (len(rest) == 0 || rest[0] == '.') {
		return ErrSubjectReserved
	}
	return nil
}

func checkLimits(subject []byte) error {
	if len(subject) > MaxSubjectBytes {
		return ErrSubjectTooLong
	}
	if bytes.Count(subject, []byte{'.'}) >= MaxTokens {
		return ErrTooManyTokens
	}
	return nil
}

// ToTopic returns the topic of a subject. It fails with [ErrTooManyTokens] or [ErrSubjectTooLong].
// If [FromTopic] never writes such a subject, the error wraps [ErrNotCanonical] and contains the
// position.
func ToTopic(subject string) (string, error) {
	if err := checkLimits([]byte(subject)); err != nil {
		return "", err
	}
	topic := make([]byte, 0, len(subject))
	for at := 0; ; {
		token, _, more := strings.Cut(subject[at:], ".")
		var err error
		if topic, err = appendLevel(topic, token, at); err != nil {
			return "", err
		}
		if !more {
			break
		}
		topic = append(topic, '/')
		at += len(token) + 1
	}
	if len(topic) == 0 {
		return "", fmt.Errorf("%w: it would be the empty topic", ErrNotCanonical)
	}
	return string(topic), nil
}

// appendLevel appends the level of the token that begins at byte at of its subject.
func appendLevel(dst []byte, token string, at int) ([]byte, error) {
	if token == "" {
		return nil, fmt.Errorf("%w: empty token at byte %d, an empty level is %s", ErrNotCanonical, at, emptyToken)
	}
	if token == emptyToken {
		return dst, nil
	}
	for i := 0; i < len(token); i++ {
		c, first := token[i], at+i == 0
		if c != '%' {
			if escaped[c] == 'x' || c == '$' && first {
				return nil, fmt.Errorf("%w: byte %d is 0x%02X, which is written %%%02X", ErrNotCanonical, at+i, c, c)
			}
			dst = append(dst, c)
			continue
		}
		if i+2 >= len(token) {
			return nil, fmt.Errorf("%w: escape at byte %d is cut off", ErrNotCanonical, at+i)
		}
		high, low := strings.IndexByte(upperHex, token[i+1]), strings.IndexByte(upperHex, token[i+2])
		if high < 0 || low < 0 {
			return nil, fmt.Errorf("%w: escape at byte %d is not two upper-case hexadecimal digits", ErrNotCanonical, at+i)
		}
		c = byte(high<<4 | low)
		switch {
		case c == '$' && first:
		case escaped[c] != 'x', c == '/', c == 0:
			return nil, fmt.Errorf("%w: byte %d escapes 0x%02X, which needs no escape there or cannot occur in a topic", ErrNotCanonical, at+i, c)
		}
		dst = append(dst, c)
		i += 2
	}
	return dst, nil
}
