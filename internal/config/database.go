package config

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"mqtt-nats-bridge/internal/schema"
)

// DatabaseURL is the URL of a PostgreSQL database. It may contain a password, which only Reveal
// reveals.
type DatabaseURL struct{ url *url.URL }

// Kind returns the name of the type in the reference.
func (d *DatabaseURL) Kind() string { return "database URL" }

// Parse reads the value of a key.
func (d *DatabaseURL) Parse(text string) error {
	u, err := parseDatabaseURL(text)
	if err != nil {
		return err
	}
	d.url = u
	return nil
}

// parseDatabaseURL checks the syntax. pgx interprets PostgreSQL's parameters and accepts several
// hosts.
func parseDatabaseURL(text string) (*url.URL, error) {
	bad := func(err error) error {
		return fmt.Errorf("%s %w; write it like postgres://ingest@postgres:5432/telemetry", quoteURL(text), err)
	}
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		return nil, bad(errors.New("is not a URL"))
	}
	if scheme = strings.ToLower(scheme); scheme != "postgres" && scheme != "postgresql" {
		return nil, bad(errors.New("has the unknown scheme " + schema.Quote(scheme)))
	}
	main, parameters, _ := strings.Cut(rest, "?")
	if name, _, _ := strings.Cut(parameters, "@"); name != parameters && !strings.Contains(name, "=") {
		main = rest // the ? is part of a password
	}
	at := strings.LastIndexByte(main, '@') + 1
	user, hosts := main[:at], main[at:]
	hosts, _, _ = strings.Cut(hosts, "/")
	for host := range strings.SplitSeq(hosts, ",") {
		if err := checkAuthority(user + host); err != nil {
			return nil, bad(err)
		}
		if one, err := url.Parse("postgres://" + host); host != "" && err == nil {
			if err := checkHost(one); err != nil {
				return nil, bad(err)
			}
		}
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, bad(errors.New("is not a URL"))
	}
	return u, nil
}

// Reveal returns the URL with its password in clear text. If the URL contains no password, Reveal
// inserts the given one.
func (d DatabaseURL) Reveal(password Secret) string {
	if d.url == nil {
		return ""
	}
	u := *d.url
	if _, has := u.User.Password(); !has && !password.IsZero() {
		u.User = url.UserPassword(u.User.Username(), password.Reveal())
	}
	return u.String()
}

// hasPassword reports whether the URL itself contains a password.
func (d DatabaseURL) hasPassword() bool {
	if d.url == nil {
		return false
	}
	_, has := d.url.User.Password()
	return has || d.url.Query().Has("password")
}

// String returns the URL without password and parameters. A parameter can also be a password.
func (d DatabaseURL) String() string {
	if d.url == nil {
		return ""
	}
	shown := url.URL{Scheme: d.url.Scheme, Host: d.url.Host, Path: d.url.Path}
	if d.url.User != nil {
		shown.User = url.User(d.url.User.Username())
	}
	return shown.String()
}

// Format prevents every verb from revealing a password.
func (d DatabaseURL) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, d.String()) }

// MarshalText returns String.
func (d DatabaseURL) MarshalText() ([]byte, error) { return []byte(d.String()), nil }
