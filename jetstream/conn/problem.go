package conn

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"

	"github.com/nats-io/nats.go"

	"mqtt-nats-bridge/internal/neterror"
	"mqtt-nats-bridge/internal/tlsfile"
)

// ProblemKind classifies a problem by what an operator has to check.
type ProblemKind string

// The kinds are values of a metric label.
const (
	// ProblemOther is any problem that is none of the kinds below.
	ProblemOther ProblemKind = "other"
	// ProblemUnreachable means that no NATS server answers at the address: check network, name and
	// port.
	ProblemUnreachable ProblemKind = "unreachable"
	// ProblemCredentials means that the server refuses the credentials, or that a credentials file
	// cannot be read.
	ProblemCredentials ProblemKind = "credentials"
	// ProblemTLS means that the two ends do not agree on certificates or on TLS itself.
	ProblemTLS ProblemKind = "tls"
	// ProblemLimit means that the connection limit of the server or the account is reached.
	ProblemLimit ProblemKind = "limit"
)

// Cause is the exact cause of a problem. Each cause has its own advice.
type Cause string

// The causes.
const (
	CauseUnknown      Cause = "unknown"
	CauseHost               = Cause(neterror.Host)
	CauseRefused            = Cause(neterror.Refused)
	CauseNoAnswer           = Cause(neterror.NoAnswer)
	CauseSilent       Cause = "silent"  // connected, but no greeting
	CauseHungUp       Cause = "hung_up" // closed after the greeting
	CauseNetwork            = Cause(neterror.Other)
	CauseNotNATS      Cause = "not_nats"     // another protocol
	CauseNotClients   Cause = "not_clients"  // a port for routes, gateways or leaf nodes
	CauseNotWebSocket Cause = "no_websocket" // ws:// to a listener of another protocol

	CauseCredentials Cause = "credentials"         // refused
	CauseExpired     Cause = "credentials_expired" // a JWT, or an account
	CauseLocalFile   Cause = "local_file"          // a local file cannot be used

	CauseServerLimit  Cause = "server_limit"  // max_connections of the server
	CauseAccountLimit Cause = "account_limit" // of the account or the user

	CausePlain        Cause = "plain"        // TLS is required here, but the server has none
	CauseGreetsFirst  Cause = "greets_first" // the server does not use handshake_first
	CauseNotTLS       Cause = "not_tls"      // the answer is not TLS
	CauseAuthority          = Cause(tlsfile.Authority)
	CauseChain              = Cause(tlsfile.Chain)
	CauseNoSAN              = Cause(tlsfile.NoSAN)
	CauseHostname           = Cause(tlsfile.Hostname)
	CauseDates              = Cause(tlsfile.Dates)
	CauseUsage              = Cause(tlsfile.Usage)
	CauseClientCert         = Cause(tlsfile.ClientCertificate)
	CauseTLSVersion         = Cause(tlsfile.Version)
	CauseTLSHandshake       = Cause(tlsfile.Handshake) // any other TLS failure
)

// Problem is a classified failure of a connection attempt.
type Problem struct {
	Kind  ProblemKind
	Cause Cause
	URL   string // redacted
	Err   error

	detail string // replaces Err's text
}

// sentences contains the text for each cause, which the cause's detail follows.
var sentences = map[Cause]string{
	CauseHost: "cannot be reached", CauseRefused: "cannot be reached", CauseNoAnswer: "cannot be reached", CauseNetwork: "cannot be reached",
	CauseSilent: "accepts the connection but sends no greeting", CauseHungUp: "closes the connection",
	CauseNotNATS: "does not speak NATS", CauseNotClients: "accepts no clients on this port", CauseNotWebSocket: "does not speak WebSocket",
	CauseCredentials: "refuses the credentials", CauseExpired: "refuses the credentials, which have expired or were revoked",
	CauseLocalFile:   "is not tried: a local file cannot be used",
	CauseServerLimit: "has reached its max_connections", CauseAccountLimit: "has reached the connection limit of this account or user",
	CausePlain: "offers no TLS, which is required here", CauseGreetsFirst: "greets before TLS, and handshake_first is set here",
	CauseNotTLS: "does not answer with TLS",
}

// Error returns a sentence for the operator: what failed and where. It contains no secret and is
// the same for every connection with this problem.
func (p Problem) Error() string {
	detail := p.detail
	if detail == "" && p.Err != nil {
		detail = neterror.WithoutLocalAddress(p.Err.Error())
	}
	sentence := cmp.Or(sentences[p.Cause], tlsfile.Cause(p.Cause).Sentence())
	if sentence == "" {
		return fmt.Sprintf("connect to nats at %s: %s", p.URL, detail)
	}
	return strings.TrimSuffix(fmt.Sprintf("nats at %s %s: %s", p.URL, sentence, detail), ": ")
}

// Unwrap returns the error that nats.go reported.
func (p Problem) Unwrap() error { return p.Err }

// Classify determines why an attempt on urls failed. err is nats.go's error: a few sentinels, and
// otherwise text from the server.
func Classify(err error, urls string) Problem { return classify(err, nil, urls) }

// classify also considers what the server has sent; nil: nothing.
func classify(err error, seen *serverOutput, urls string) Problem {
	cause, detail := causeOf(err, seen)
	return Problem{Kind: cmp.Or(kinds[cause], ProblemOther), Cause: cause, URL: RedactURL(urls), Err: err, detail: detail}
}

var kinds = map[Cause]ProblemKind{
	CauseHost: ProblemUnreachable, CauseRefused: ProblemUnreachable, CauseNoAnswer: ProblemUnreachable, CauseSilent: ProblemUnreachable,
	CauseHungUp: ProblemUnreachable, CauseNetwork: ProblemUnreachable, CauseNotNATS: ProblemUnreachable, CauseNotClients: ProblemUnreachable,
	CauseNotWebSocket: ProblemUnreachable,
	CauseCredentials:  ProblemCredentials, CauseExpired: ProblemCredentials, CauseLocalFile: ProblemCredentials,
	CauseServerLimit: ProblemLimit, CauseAccountLimit: ProblemLimit,
	CausePlain: ProblemTLS, CauseGreetsFirst: ProblemTLS, CauseNotTLS: ProblemTLS, CauseAuthority: ProblemTLS, CauseChain: ProblemTLS,
	CauseNoSAN: ProblemTLS, CauseHostname: ProblemTLS, CauseDates: ProblemTLS, CauseUsage: ProblemTLS, CauseClientCert: ProblemTLS,
	CauseTLSVersion: ProblemTLS, CauseTLSHandshake: ProblemTLS, Cause(tlsfile.ALPN): ProblemTLS,
}

// causeOf returns the cause. An empty detail means that the error's own text is used.
func causeOf(err error, seen *serverOutput) (cause Cause, detail string) {
	if _, local := errors.AsType[*LocalFileError](err); local || (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)) && !isNetError(err) {
		return CauseLocalFile, ""
	}
	if seen != nil && seen.refusal != "" {
		if cause := refusalCause(seen.refusal); cause != CauseUnknown {
			return cause, seen.refusal
		}
	}
	if cause := refusalCause(err.Error()); cause != CauseUnknown {
		return cause, ""
	}
	if errors.Is(err, nats.ErrNkeysNotSupported) {
		return CauseCredentials, "it has no user with an nkey or a JWT"
	}
	if cause, detail := tlsCause(err, seen); cause != CauseUnknown {
		return cause, detail
	}
	return networkCause(err, seen)
}

// refusalCause classifies the text of a server's refusal. It compares text, because nats.go 1.55.0
// passes on the -ERR that answers CONNECT, and its sentinels match only some of them ("User
// Authentication Expired" is not ErrAuthExpired's text).
func refusalCause(text string) Cause {
	text = strings.ToLower(text)
	for _, known := range []struct {
		part  string
		cause Cause
	}{
		{"maximum connections exceeded", CauseServerLimit},
		{"maximum account active connections", CauseAccountLimit},
		{"maximum user active connections", CauseAccountLimit},
		{"authorization violation", CauseCredentials},
		{"authentication expired", CauseExpired},
		{"authentication revoked", CauseExpired},
		{"attempted to connect to route port", CauseNotClients},
		{"attempted to connect to leaf node port", CauseNotClients},
		{"wrong gateway", CauseNotClients},
	} {
		if strings.Contains(text, known.part) {
			return known.cause
		}
	}
	return CauseUnknown
}

func networkCause(err error, seen *serverOutput) (Cause, string) {
	if cause := neterror.Dial(err); cause != "" {
		return Cause(cause), ""
	}
	switch {
	case seen != nil && strings.HasPrefix(seen.first, "INFO ") && strings.Contains(err.Error(), "malformed HTTP"):
		return CauseNotWebSocket, ""
	case errors.Is(err, nats.ErrNoInfoReceived), seen != nil && !strings.HasPrefix(seen.first, "INFO ") && isText(seen.first):
		return CauseNotNATS, quoteGreeting(seen)
	case strings.Contains(err.Error(), "invalid websocket connection"):
		return CauseNotWebSocket, ""
	case seen == nil && (neterror.IsClosed(err) || neterror.IsTimeout(err) || errors.Is(err, nats.ErrTimeout)):
		return CauseSilent, ""
	case neterror.IsClosed(err):
		return CauseHungUp, ""
	case neterror.IsTimeout(err), errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrStaleConnection):
		return CauseNoAnswer, ""
	case errors.Is(err, nats.ErrNoServers), isNetError(err):
		return CauseNetwork, ""
	}
	return CauseUnknown, ""
}

func isText(first string) bool { return first != "" && first[0] >= ' ' && first[0] <= '~' }

// quoteGreeting quotes the first line of a server that is not a NATS server.
func quoteGreeting(seen *serverOutput) string {
	if seen == nil || !isText(seen.first) {
		return ""
	}
	line, _, _ := strings.Cut(seen.first, "\n")
	return fmt.Sprintf("it sends %.40q", strings.TrimSpace(line))
}

func isNetError(err error) bool {
	_, ok := errors.AsType[net.Error](err)
	return ok
}

// isCredentialError also reports expired credentials.
func isCredentialError(err error) bool {
	switch refusalCause(err.Error()) {
	case CauseCredentials, CauseExpired:
		return true
	}
	return errors.Is(err, nats.ErrNkeysNotSupported)
}

// RedactURL redacts the part before the @ of each comma-separated URL: the password, or all of it
// if it is a token. It works on text, so it also covers URLs that do not parse. internal/config
// applies the same rule to its URLs.
func RedactURL(urls string) string {
	parts := strings.Split(urls, ",")
	for i, part := range parts {
		parts[i] = redactOne(strings.TrimSpace(part))
	}
	return strings.Join(parts, ",")
}

func redactOne(raw string) string {
	scheme, rest, found := strings.Cut(raw, "://")
	if !found {
		scheme, rest = "", raw
	} else {
		scheme += "://"
	}
	at := strings.LastIndexByte(rest, '@')
	if at >= 0 {
		user, _, hasPassword := strings.Cut(rest[:at], ":")
		if !hasPassword {
			return scheme + "xxxxx" + rest[at:]
		}
		return scheme + user + ":xxxxx" + rest[at:]
	}
	// A password that contains a comma is split above, so an apparently invalid port may be its
	// first half.
	host, port, hasPort := strings.Cut(rest, ":")
	if hasPort && !strings.HasPrefix(rest, "[") && strings.Trim(port, "0123456789/") != "" {
		return scheme + host + ":xxxxx"
	}
	return raw
}
