package config

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"mqtt-nats-bridge/internal/schema"
)

// urlRules describe the valid URLs of a key.
type urlRules struct {
	example string
	schemes []string // the first is the preferred one
	bare    bool     // a URL without a scheme gets the first one
	paths   []string // schemes that allow a path
	instead string   // for a base URL: where to give the credentials that it must not contain
}

// urlList is a list of URLs, written with commas or as a YAML list. They may contain credentials,
// which only join with [url.URL.String] reveals.
type urlList struct{ urls []*url.URL }

// Joined marks a type whose values are separated by commas and may also be a list in the file.
func (l *urlList) Joined() {}

func (l *urlList) parseList(text string, rules *urlRules) error {
	var parsed urlList
	for part := range strings.SplitSeq(text, ",") {
		u, err := rules.parse(strings.TrimSpace(part), text)
		if err != nil {
			return err
		}
		parsed.urls = append(parsed.urls, u)
	}
	*l = parsed
	return nil
}

// parse reads one URL of text, which is the whole value. The error contains a correct example and no
// part of a password.
func (r *urlRules) parse(part, text string) (*url.URL, error) {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%s %s; %s", quoteURL(text), fmt.Sprintf(format, args...), r.example)
	}
	if part == "" && strings.Contains(text, ",") {
		return nil, bad("has an empty item in its list")
	}
	scheme, rest, found := strings.Cut(part, "://")
	if !found {
		if strings.Contains(text, "@") && strings.Contains(text, ",") {
			return nil, bad("is not a URL: write a comma in a password as %%2C")
		}
		if !r.bare {
			return nil, bad("is not a URL: it has no scheme://")
		}
		part, rest, scheme = r.schemes[0]+"://"+part, part, r.schemes[0]
	}
	if !slices.Contains(r.schemes, strings.ToLower(scheme)) {
		if strings.ContainsAny(scheme, "@/: ") {
			return nil, bad("is not a URL")
		}
		return nil, bad("has the unknown scheme %s", schema.Quote(scheme))
	}
	if err := checkAuthority(rest); err != nil {
		return nil, bad("%v", err)
	}
	u, err := url.Parse(part)
	if err != nil { // err quotes its input, including a password
		return nil, bad("is not a URL")
	}
	if err := checkHost(u); err != nil {
		return nil, bad("%v", err)
	}
	path := u.Path != "" && u.Path != "/"
	if path && !slices.Contains(r.paths, u.Scheme) || u.RawQuery != "" && !slices.Contains(r.paths, u.Scheme) || u.ForceQuery || u.Fragment != "" {
		return nil, bad("has more than a host and a port")
	}
	return u, nil
}

// baseURL is the base URL of an HTTP API, without credentials.
type baseURL struct{ text string }

func (b *baseURL) parse(text string, rules *urlRules) error {
	if text == "" {
		b.text = ""
		return nil
	}
	u, err := rules.parse(text, text)
	switch {
	case err != nil:
		return err
	case u.User != nil:
		return fmt.Errorf("%s; remove the credentials, and %s", quoteURL(text), rules.instead)
	case u.RawQuery != "":
		return fmt.Errorf("%s has a query; %s", quoteURL(text), rules.example)
	}
	b.text = strings.TrimSuffix(u.String(), "/")
	return nil
}

// Kind returns the name of the type in the reference.
func (b *baseURL) Kind() string { return "HTTP URL" }

// IsZero reports whether no URL is set.
func (b baseURL) IsZero() bool { return b.text == "" }

// String returns the URL without a trailing slash.
func (b baseURL) String() string { return b.text }

// MarshalText returns String.
func (b baseURL) MarshalText() ([]byte, error) { return []byte(b.text), nil }

// checkAuthority checks the part after the scheme before it is parsed. A special character that is
// not encoded would move the end of a password into the host.
func checkAuthority(rest string) error {
	host := rest
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		user := rest[:at]
		host = rest[at+1:]
		switch {
		case user == "":
			return errors.New("has an @ without a user before it")
		case strings.ContainsAny(user, "@/?#[]\\ \t\""):
			return errors.New("has a special character in the user or password: percent-encode it (@ is %40, # is %23, / is %2F, ? is %3F), or give the password in a file")
		}
	}
	if end := strings.IndexAny(host, "/?#"); end >= 0 {
		host = host[:end]
	}
	if strings.HasPrefix(host, "[") || strings.Count(host, ":") < 2 {
		return nil
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return errors.New("has an IPv6 address without brackets: write [" + host + "]")
	}
	return errors.New("has more than one colon in its host and port; write an IPv6 address in brackets, like [::1]:1883")
}

func checkHost(u *url.URL) error {
	host := u.Hostname()
	if host == "" {
		return errors.New("names no host")
	}
	if strings.ContainsAny(host, " \t\r\n\x00") {
		return errors.New("has a space in its host")
	}
	invalid := func(r rune) bool { return !isAlphanumeric(r) && !strings.ContainsRune("-_.", r) }
	if !strings.HasPrefix(u.Host, "[") && strings.ContainsFunc(host, invalid) {
		return errors.New("has a character in its host that is not valid in a host name")
	}
	if strings.HasPrefix(u.Host, "[") {
		if _, err := netip.ParseAddr(host); err != nil {
			return errors.New("has no valid IPv6 address in its brackets")
		}
	}
	if strings.HasSuffix(u.Host, ":") {
		return errors.New("has a colon without a port")
	}
	// url.Parse guarantees that the port consists of digits.
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return errors.New("has a port outside 1-65535")
		}
	}
	return nil
}

// quoteURL quotes a URL for an error, unless it may contain a password. An invalid port can be a
// password if the host is missing.
func quoteURL(text string) string {
	if strings.Contains(text, "@") {
		return "the URL (not shown, it contains credentials)"
	}
	for part := range strings.SplitSeq(text, ",") {
		_, rest, found := strings.Cut(part, "://")
		if !found {
			rest = part
		}
		_, port, _ := strings.Cut(rest, ":")
		port, _, _ = strings.Cut(port, "/")
		_, err := netip.ParseAddr(strings.Trim(rest, "[]"))
		if strings.Trim(port, "0123456789:]") != "" && err != nil && !strings.HasPrefix(rest, "[") {
			return "the URL (not shown, it may contain a password)"
		}
	}
	return schema.Quote(text)
}

// join returns the URLs separated by commas.
func (l urlList) join(show func(*url.URL) string) string {
	all := make([]string, len(l.urls))
	for i, u := range l.urls {
		all[i] = show(u)
	}
	return strings.Join(all, ",")
}

// String returns the URLs separated by commas, with credentials redacted.
func (l urlList) String() string { return l.join(redactURL) }

// Format prevents every verb, including %#v, from revealing credentials.
func (l urlList) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, l.String()) }

// MarshalText returns String.
func (l urlList) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// IsZero reports whether the list is empty.
func (l urlList) IsZero() bool { return len(l.urls) == 0 }

// hasUser reports whether any URL contains credentials.
func (l urlList) hasUser() bool {
	return slices.ContainsFunc(l.urls, func(u *url.URL) bool { return u.User != nil })
}

// redactURL follows the rule of jetstream/conn.RedactURL, which works on text because it also sees
// invalid URLs: it hides a password, and a user that has none, because in NATS that is a token.
func redactURL(u *url.URL) string {
	if _, hasPassword := u.User.Password(); u.User == nil || hasPassword {
		return u.Redacted()
	}
	hidden := *u
	hidden.User = url.User("xxxxx")
	return hidden.String()
}

// withPort sets the port of a URL that has none.
func withPort(u *url.URL, port string) {
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
}
