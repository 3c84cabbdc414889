package config

import (
	"fmt"
	"io"
	"net/url"
)

// DatabaseURL is where PostgreSQL is. It may hold a password; only Reveal shows
// it.
type DatabaseURL struct{ url *url.URL }

func (d *DatabaseURL) parse(text string) error {
	const example = "write it like postgres://ingest@postgres:5432/telemetry"
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		return fmt.Errorf("%s is not a URL; %s", quoteURL(text), example)
	}
	if u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return fmt.Errorf("%s has the unknown scheme %s; %s", quoteURL(text), quote(u.Scheme), example)
	}
	d.url = u
	return nil
}

// Reveal is the URL with its password in clear, and with this one where it has
// none.
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

// hasPassword reports whether the URL itself brings one.
func (d DatabaseURL) hasPassword() bool {
	if d.url == nil {
		return false
	}
	_, has := d.url.User.Password()
	return has || d.url.Query().Has("password")
}

// String is the URL without password and without parameters, one of which may be
// a password too.
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

// Format keeps every verb from showing a password.
func (d DatabaseURL) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, d.String()) }

// MarshalText is String.
func (d DatabaseURL) MarshalText() ([]byte, error) { return []byte(d.String()), nil }
