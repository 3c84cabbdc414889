package config

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// BrokerURL is where the MQTT broker is. User and password in the URL are moved
// to MQTT.Username and MQTT.Password by Load.
type BrokerURL struct {
	Host string
	Port int
	// Secure: TLS, never plain text.
	Secure bool

	userinfo *url.Userinfo
}

func (b *BrokerURL) parse(text string) error {
	const example = "write it like mqtt://emqx:1883, or mqtts://emqx:8883 for TLS"
	shown := quoteURL(text)
	u, err := url.Parse(text)
	// url.Parse's error quotes its input, password and all: it stays here.
	if err != nil || !strings.Contains(text, "://") {
		return fmt.Errorf("%s is not a URL; %s", shown, example)
	}
	var parsed BrokerURL
	switch u.Scheme {
	case "mqtt", "tcp":
		parsed.Port = 1883
	case "mqtts", "ssl", "tls":
		parsed.Port, parsed.Secure = 8883, true
	case "ws", "wss":
		return fmt.Errorf("%s: MQTT over WebSocket is not supported; %s", shown, example)
	default:
		return fmt.Errorf("%s has the unknown scheme %s; %s", shown, quote(u.Scheme), example)
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return fmt.Errorf("%s has more than host and port; %s", shown, example)
	}
	parsed.Host, parsed.userinfo = u.Hostname(), u.User
	if err := checkHost(u); err != nil {
		return fmt.Errorf("%s %w; %s", shown, err, example)
	}
	if p := u.Port(); p != "" {
		parsed.Port, _ = strconv.Atoi(p) // checkHost has seen it
	}
	*b = parsed
	return nil
}

// Address is host:port, for a dialer.
func (b BrokerURL) Address() string { return net.JoinHostPort(b.Host, strconv.Itoa(b.Port)) }

// String is the URL as mqtt:// or mqtts://, without credentials.
func (b BrokerURL) String() string {
	if b.Host == "" {
		return ""
	}
	if b.Secure {
		return "mqtts://" + b.Address()
	}
	return "mqtt://" + b.Address()
}

// MarshalText is String.
func (b BrokerURL) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// Servers are NATS servers. Their URLs may hold credentials; only Join shows
// them.
type Servers struct{ urls []*url.URL }

func (s *Servers) parse(text string) error {
	const example = "write it like nats://nats:4222, several separated by commas"
	// Redacted as a whole: a comma in a password splits in the wrong place.
	shown := quoteURL(text)
	var parsed Servers
	webSockets := 0
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			return fmt.Errorf("%s names no server; %s", shown, example)
		}
		if !strings.Contains(part, "://") {
			part = "nats://" + part // as nats.go reads it
		}
		u, err := url.Parse(part)
		if err != nil {
			return fmt.Errorf("%s is not a URL; %s", shown, example)
		}
		switch u.Scheme {
		case "nats", "tls":
			if u.Path != "" && u.Path != "/" {
				return fmt.Errorf("%s has more than host and port; %s", shown, example)
			}
		case "ws", "wss":
			webSockets++
		default:
			return fmt.Errorf("%s has the unknown scheme %s; %s", shown, quote(u.Scheme), example)
		}
		if err := checkHost(u); err != nil {
			return fmt.Errorf("%s %w; %s", shown, err, example)
		}
		if u.RawQuery != "" || u.Fragment != "" {
			return fmt.Errorf("%s has more than host and port; %s", shown, example)
		}
		parsed.urls = append(parsed.urls, u)
	}
	if webSockets > 0 && webSockets < len(parsed.urls) {
		return fmt.Errorf("%s mixes ws:// with other servers; name only one kind", shown)
	}
	*s = parsed
	return nil
}

// Join is the URLs separated by commas, credentials in clear.
func (s Servers) Join() string { return s.join((*url.URL).String) }

// String is the URLs separated by commas, credentials redacted.
func (s Servers) String() string { return s.join(redactURL) }

// Format keeps every verb, %#v included, from showing credentials.
func (s Servers) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, s.String()) }

// MarshalText is String.
func (s Servers) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// IsZero reports whether there are none: a nats CLI context names them.
func (s Servers) IsZero() bool { return len(s.urls) == 0 }

func (s Servers) join(show func(*url.URL) string) string {
	all := make([]string, len(s.urls))
	for i, u := range s.urls {
		all[i] = show(u)
	}
	return strings.Join(all, ",")
}

// hasUser reports whether any URL brings credentials.
func (s Servers) hasUser() bool {
	for _, u := range s.urls {
		if u.User != nil {
			return true
		}
	}
	return false
}

// redactURL hides user and password: in NATS a lone user is a token.
func redactURL(u *url.URL) string {
	if u.User == nil {
		return u.String()
	}
	hidden := *u
	hidden.User = url.User("redacted")
	return hidden.String()
}

func checkHost(u *url.URL) error {
	if u.Hostname() == "" {
		return errors.New("names no host")
	}
	if strings.ContainsAny(u.Hostname(), " \t\r\n\x00") {
		return errors.New("has a space in its host")
	}
	// url.Parse has seen that a port is digits.
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return errors.New("has a port outside 1-65535")
		}
	}
	return nil
}

// quoteURL quotes a URL for a fault. With an @ in it nothing is shown: where
// the password ends cannot be told once parsing has failed.
func quoteURL(text string) string {
	if strings.Contains(text, "@") {
		return "the URL (not shown, it holds credentials)"
	}
	return quote(text)
}

// ParseBrokerURL reads a broker's URL that is no part of a configuration. One with user
// and password is refused: other users of the machine see a command line.
func ParseBrokerURL(text string) (BrokerURL, error) {
	var b BrokerURL
	if err := b.parse(text); err != nil {
		return b, err
	}
	if b.userinfo != nil {
		return b, errors.New("the URL must have no user and password")
	}
	return b, nil
}
