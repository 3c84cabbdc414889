package quarantine

import (
	"fmt"
	"strings"
	"unicode"
)

// Replay returns the command line that replays all messages of m's device with the same reason, or the
// reason why m cannot be replayed. file is the configuration file; empty: none. Names are quoted for a
// POSIX shell.
func (m *Message) Replay(file string) string {
	if m.Kept < m.Size {
		return fmt.Sprintf("cannot be replayed: only the first %d bytes were kept", m.Kept)
	}
	command := "mqtt-nats-bridge quarantine replay"
	for _, flag := range [][2]string{{"--reason=", m.Reason}, {"--tenant=", m.Tenant}, {"--device=", m.Device}} {
		if flag[1] != "" {
			command += " " + flag[0] + quote(flag[1])
		}
	}
	if file != "" {
		command += " -c " + quote(file)
	}
	return command
}

// quote returns a string from a device as one shell argument. An unsafe string is quoted. If it contains
// control characters, which a terminal would interpret, they are escaped.
func quote(s string) string {
	plain, control := s != "", false
	for _, r := range s {
		switch {
		case !unicode.IsPrint(r) || r == unicode.ReplacementChar:
			control = true
		case r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_./:@%+=-", r):
		default:
			plain = false
		}
	}
	switch {
	case control:
		var b strings.Builder
		b.WriteString("$'")
		for _, c := range []byte(s) {
			switch {
			case c == '\'' || c == '\\':
				b.WriteByte('\\')
				b.WriteByte(c)
			case c < ' ' || c >= 0x7f:
				fmt.Fprintf(&b, `\%03o`, c)
			default:
				b.WriteByte(c)
			}
		}
		return b.String() + "'"
	case plain && s[0] != '-':
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
