package subjects

import (
	"errors"
	"fmt"
	"strings"
)

// keyEscape precedes the two digits of an escaped byte in a key. Subjects use a percent sign, which
// a key must not contain.
const keyEscape = '='

// ErrNotAKey means that [AppendKey] never writes such a token.
var ErrNotAKey = errors.New("not a key as the bridge writes it")

// AppendKey appends a name, such as a tenant or a device, as one token of a key in a NATS KV
// bucket. A key may contain only letters, digits and - _ / = . (ADR-8). Every other byte, and the
// dot, the slash and = themselves, become =XX: acme.eu is acme=2Eeu. An empty name is =00.
func AppendKey(dst []byte, name string) []byte {
	if name == "" {
		return append(dst, keyEscape, '0', '0')
	}
	for i := range len(name) {
		c := name[i]
		if keyByte(c) {
			dst = append(dst, c)
			continue
		}
		dst = append(dst, keyEscape, upperHex[c>>4], upperHex[c&0xF])
	}
	return dst
}

// ParseKey is the inverse of [AppendKey]. Its error wraps [ErrNotAKey] and explains the correct
// form.
func ParseKey(token string) (string, error) {
	if token == "=00" {
		return "", nil
	}
	name := make([]byte, 0, len(token))
	for i := 0; i < len(token); i++ {
		c := token[i]
		if keyByte(c) {
			name = append(name, c)
			continue
		}
		if c != keyEscape {
			return "", fmt.Errorf("%w: byte 0x%02X is written =%02X", ErrNotAKey, c, c)
		}
		if i+2 >= len(token) {
			return "", fmt.Errorf("%w: an escape is cut off; = itself is written =3D", ErrNotAKey)
		}
		high, low := strings.IndexByte(upperHex, token[i+1]), strings.IndexByte(upperHex, token[i+2])
		if high < 0 || low < 0 {
			return "", fmt.Errorf("%w: %s is not = and two upper-case hexadecimal digits", ErrNotAKey, token[i:i+3])
		}
		if c = byte(high<<4 | low); keyByte(c) || c == 0 {
			return "", fmt.Errorf("%w: %s is the escape of a byte that needs none or cannot occur in a name", ErrNotAKey, token[i:i+3])
		}
		name = append(name, c)
		i += 2
	}
	if len(name) == 0 {
		return "", fmt.Errorf("%w: an empty name is written =00", ErrNotAKey)
	}
	return string(name), nil
}

// keyByte reports whether a byte needs no escape.
func keyByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '-' || c == '_'
}
