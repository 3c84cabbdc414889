package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
)

// Brokers are listeners of the MQTT broker. Load moves user and password from the URLs to
// MQTT.Username and MQTT.Password.
type Brokers struct{ urlList }

var brokerRules = urlRules{
	example: "write it like mqtt://emqx:1883, or mqtts://emqx:8883 for TLS, several separated by commas",
	schemes: []string{"mqtt", "tcp", "mqtts", "ssl", "tls", "ws", "wss"}, paths: []string{"ws", "wss"},
}

// Kind returns the name of the type in the reference.
func (b *Brokers) Kind() string { return "URLs" }

// Parse reads the value of a key.
func (b *Brokers) Parse(text string) error {
	var parsed Brokers
	if err := parsed.parseList(text, &brokerRules); err != nil {
		return err
	}
	for _, u := range parsed.urls {
		switch u.Scheme {
		case "mqtt", "tcp":
			u.Scheme = "mqtt"
			withPort(u, "1883")
		case "ws":
			withPort(u, "80")
		case "wss":
			withPort(u, "443")
		default:
			u.Scheme = "mqtts"
			withPort(u, "8883")
		}
		if !webSocket(u) {
			u.Path = ""
		}
		switch first := parsed.urls[0]; {
		case secure(u) != secure(first):
			return fmt.Errorf("%s mixes plain text and TLS; name only one kind", quoteURL(text))
		case u.User.String() != first.User.String():
			return fmt.Errorf("%s contains different credentials; write them once, in mqtt.username and mqtt.password_file", quoteURL(text))
		}
	}
	*b = parsed
	return nil
}

func secure(u *url.URL) bool { return u.Scheme == "mqtts" || u.Scheme == "wss" }

func webSocket(u *url.URL) bool { return u.Scheme == "ws" || u.Scheme == "wss" }

// Secure reports whether the listeners use TLS; either all do, or none.
func (b Brokers) Secure() bool { return len(b.urls) > 0 && secure(b.urls[0]) }

// List returns the listeners in the order in which to try them.
func (b Brokers) List() []BrokerURL {
	all := make([]BrokerURL, len(b.urls))
	for i, u := range b.urls {
		all[i] = BrokerURL{Host: u.Hostname(), Address: u.Host, Secure: secure(u), WebSocket: webSocket(u)}
		if all[i].WebSocket {
			all[i].Path = u.RequestURI()
		}
	}
	return all
}

// takeUser removes the credentials from the URLs and returns them, or nil if there are none.
func (b *Brokers) takeUser() *url.Userinfo {
	if !b.hasUser() {
		return nil
	}
	user := b.urls[0].User
	for _, u := range b.urls {
		u.User = nil
	}
	return user
}

// BrokerURL is one listener of a broker.
type BrokerURL struct {
	Host    string
	Address string // host:port, for a dialer
	// Secure means TLS, never plain text.
	Secure bool
	// WebSocket means MQTT over WebSocket at Path, which begins with a slash.
	WebSocket bool
	Path      string
}

// String returns the URL with the scheme mqtt, mqtts, ws or wss.
func (b BrokerURL) String() string {
	switch {
	case b.Host == "":
		return ""
	case b.WebSocket && b.Secure:
		return "wss://" + b.Address + b.Path
	case b.WebSocket:
		return "ws://" + b.Address + b.Path
	case b.Secure:
		return "mqtts://" + b.Address
	}
	return "mqtt://" + b.Address
}

// ParseBrokerURL reads a broker's URL from the command line. A URL with user and password is
// refused, because other users of the machine can read a command line.
func ParseBrokerURL(text string) (BrokerURL, error) {
	var b Brokers
	if err := b.Parse(text); err != nil {
		return BrokerURL{}, err
	}
	switch {
	case b.hasUser():
		return BrokerURL{}, errors.New("the URL must have no user and password")
	case len(b.urls) > 1:
		return BrokerURL{}, errors.New("name one broker")
	}
	return b.List()[0], nil
}

// Servers are NATS servers. Their URLs may contain credentials, which only Join reveals.
type Servers struct{ urlList }

var natsRules = urlRules{
	example: "write it like nats://nats:4222, several separated by commas",
	schemes: []string{"nats", "tls", "ws", "wss"}, bare: true, // as nats.go reads them
	paths: []string{"ws", "wss"},
}

// Kind returns the name of the type in the reference.
func (s *Servers) Kind() string { return "URLs" }

// Parse reads the value of a key.
func (s *Servers) Parse(text string) error {
	var parsed Servers
	if err := parsed.parseList(text, &natsRules); err != nil {
		return err
	}
	if slices.ContainsFunc(parsed.urls, webSocket) && slices.ContainsFunc(parsed.urls, func(u *url.URL) bool { return !webSocket(u) }) {
		return fmt.Errorf("%s mixes ws:// with other servers; name only one kind", quoteURL(text))
	}
	*s = parsed
	return nil
}

// Join returns the URLs separated by commas, with credentials in clear text.
func (s Servers) Join() string { return s.join((*url.URL).String) }
