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

// urlRules say what the URLs of a key may be.
type urlRules struct {
	example string
	schemes []string // the first is the one to write
	bare    bool     // a URL without a scheme has the first
	paths   []string // schemes that may have a path
}

// urlList is a list of URLs, separated by commas or a list of the file. They may contain
// credentials; only join with [url.URL.String] shows them.
type urlList struct{ urls []*url.URL }

// Joined marks texts separated by commas, which may be a list in the file.
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

// parse reads one URL out of text, which is the whole value. The error says how to spell it
// and shows no part of a password.
func (r *urlRules) parse(part, text string) (*url.URL, error) {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%s %s; %s", quoteURL(text), fmt.Sprintf(format, args...), r.example)
	}
	if part == "" && strings.Contains(text, ",") {
		return nil, bad("names no server between two commas or at an end")
	}
	scheme, rest, found := strings.Cut(part, "://")
	if !found {
		if strings.Contains(text, "@") && strings.Contains(text, ",") {
			return nil, bad("is not a URL: a comma in a password is written %%2C")
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
	if err != nil { // it quotes its input, password and all
		return nil, bad("is not a URL")
	}
	if err := checkHost(u); err != nil {
		return nil, bad("%v", err)
	}
	path := u.Path != "" && u.Path != "/"
	if path && !slices.Contains(r.paths, u.Scheme) || u.RawQuery != "" && !slices.Contains(r.paths, u.Scheme) || u.ForceQuery || u.Fragment != "" {
		return nil, bad("has more than host and port")
	}
	return u, nil
}

// checkAuthority checks what follows the scheme before it is taken apart: an odd
// character would put the end of a password into the host.
func checkAuthority(rest string) error {
	host := rest
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		user := rest[:at]
		host = rest[at+1:]
		switch {
		case user == "":
			return errors.New("has an @ and no user before it")
		case strings.ContainsAny(user, "@/?#[]\\ \t\""):
			return errors.New("has a special character in user or password: write it percent-encoded (@ is %40, # is %23, / is %2F, ? is %3F), or give the password in a file")
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
	return errors.New("has more than one colon in its host and port; an IPv6 address is written in brackets, like [::1]:1883")
}

func checkHost(u *url.URL) error {
	host := u.Hostname()
	if host == "" {
		return errors.New("names no host")
	}
	if strings.ContainsAny(host, " \t\r\n\x00") {
		return errors.New("has a space in its host")
	}
	odd := func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r == '-' || r == '_' || r == '.')
	}
	if !strings.HasPrefix(u.Host, "[") && strings.ContainsFunc(host, odd) {
		return errors.New("has a character in its host that no host name has")
	}
	if strings.HasPrefix(u.Host, "[") {
		if _, err := netip.ParseAddr(host); err != nil {
			return errors.New("has no IPv6 address in its brackets")
		}
	}
	if strings.HasSuffix(u.Host, ":") {
		return errors.New("has a colon and no port")
	}
	// url.Parse has seen that a port is digits.
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return errors.New("has a port outside 1-65535")
		}
	}
	return nil
}

// quoteURL quotes a URL for an error, unless it may contain a password: what looks like a port
// and is none may be one whose host is missing.
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

// join is the URLs separated by commas.
func (l urlList) join(show func(*url.URL) string) string {
	all := make([]string, len(l.urls))
	for i, u := range l.urls {
		all[i] = show(u)
	}
	return strings.Join(all, ",")
}

// String is the URLs separated by commas, credentials redacted.
func (l urlList) String() string { return l.join(redactURL) }

// Format keeps every verb, %#v included, from showing credentials.
func (l urlList) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, l.String()) }

// MarshalText is String.
func (l urlList) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// IsZero reports whether there are none.
func (l urlList) IsZero() bool { return len(l.urls) == 0 }

// hasUser reports whether any URL brings credentials.
func (l urlList) hasUser() bool {
	return slices.ContainsFunc(l.urls, func(u *url.URL) bool { return u.User != nil })
}

// redactURL hides user and password: in NATS a lone user is a token.
func redactURL(u *url.URL) string {
	if u.User == nil {
		return u.String()
	}
	hidden := *u
	hidden.User = url.User("xxxxx")
	return hidden.String()
}

// withPort gives the URL a port where it has none.
func withPort(u *url.URL, port string) {
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
}
