package mqtt

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"mqtt-nats-bridge/internal/neterror"
	"mqtt-nats-bridge/internal/tlsfile"
)

// Cause classifies what is wrong with a connection to a broker; it includes the causes of
// [tlsfile.Cause].
type Cause string

// The causes.
const (
	CauseNetwork        = Cause(neterror.Other)
	CauseHost           = Cause(neterror.Host)
	CauseRefused        = Cause(neterror.Refused)
	CauseNoAnswer       = Cause(neterror.NoAnswer)
	CauseSilent   Cause = "silent"  // a connection, but no answer
	CauseHungUp   Cause = "hung_up" // closed instead of an answer

	CauseNotMQTT Cause = "not_mqtt" // another protocol
	CausePlain   Cause = "plain"    // MQTT without TLS, but TLS is configured
	CauseTLSPort Cause = "tls_port" // TLS, but none is configured
	CauseNotTLS  Cause = "not_tls"  // the answer is not TLS

	CauseNotWebSocket Cause = "no_websocket" // not a WebSocket, or not at this path

	CauseVersion       Cause = "version"        // CONNACK 1
	CauseClientID      Cause = "client_id"      // CONNACK 2
	CauseUnavailable   Cause = "unavailable"    // CONNACK 3
	CauseCredentials   Cause = "credentials"    // CONNACK 4 or 5
	CauseNoCredentials Cause = "no_credentials" // CONNACK 4 or 5, and no credentials are configured
	CauseLocalFile     Cause = "local_file"     // cannot be used
)

// sentences has the text for each cause: what the broker does. The cause's detail follows it.
var sentences = map[Cause]string{
	CauseNetwork: "cannot be reached", CauseHost: "cannot be reached", CauseRefused: "cannot be reached", CauseNoAnswer: "cannot be reached",
	CauseSilent: "accepts the connection but does not answer", CauseHungUp: "closes the connection instead of answering CONNECT",
	CauseNotMQTT: "does not speak MQTT", CausePlain: "speaks MQTT without TLS", CauseTLSPort: "speaks TLS, which is not used here",
	CauseNotTLS: "does not answer with TLS", CauseNotWebSocket: "does not accept the WebSocket handshake",
	CauseVersion: "does not accept MQTT 3.1.1", CauseClientID: "refuses the client id", CauseUnavailable: "is not available",
	CauseCredentials: "refuses the credentials", CauseNoCredentials: "requires credentials, but none are configured",
	CauseLocalFile: "is not tried: a local file cannot be used",
}

// ConnectProblem is a classified failure of a connection attempt. errors.Is finds [ErrUnreachable],
// [ErrCredentials] and [ErrRefused] in it.
type ConnectProblem struct {
	Cause Cause
	URL   string // of the listener
	Err   error

	detail string // instead of Err's text
}

// Error returns a sentence for the operator: what failed and where. It contains no secret and is
// the same for every connection with this problem.
func (p *ConnectProblem) Error() string {
	detail := p.detail
	if detail == "" && p.Err != nil {
		detail = neterror.WithoutLocalAddress(p.Err.Error())
	}
	sentence := cmp.Or(sentences[p.Cause], tlsfile.Cause(p.Cause).Sentence())
	return strings.TrimSuffix(fmt.Sprintf("broker at %s %s: %s", p.URL, sentence, detail), ": ")
}

// Unwrap returns what failed.
func (p *ConnectProblem) Unwrap() error { return p.Err }

// Is implements errors.Is for the kinds of problems.
func (p *ConnectProblem) Is(kind error) bool {
	switch p.Cause {
	case CauseCredentials, CauseNoCredentials, CauseLocalFile, Cause(tlsfile.ClientCertificate):
		return kind == ErrCredentials
	case CauseVersion, CauseClientID, CauseUnavailable, CauseHungUp, CauseTLSPort:
		return kind == ErrRefused
	case CauseNotMQTT:
		return false
	}
	return kind == ErrUnreachable
}

// attempt is what is known about a failed connection attempt.
type attempt struct {
	server    Server
	login     *Login // nil: it could not be read
	connack   byte   // the return code; 0: there was none
	said      []byte // the first bytes of what came instead of a CONNACK
	handshake bool   // it was TLS that failed
	err       error
}

// newAttempt describes an attempt of paho. t is its connection; nil: there was none.
func newAttempt(server Server, login *Login, connack byte, t *tap, err error) *attempt {
	a := &attempt{server: server, login: login, connack: connack, err: cause(tapError(t, err))}
	var handshake *handshakeError
	a.handshake = errors.As(err, &handshake)
	if t != nil {
		a.said = t.said()
	}
	return a
}

// problem classifies the attempt. identify detects the protocol of a server that sent nothing; nil:
// no detection.
func (a *attempt) problem(identify func() protocol) *ConnectProblem {
	p := &ConnectProblem{URL: a.server.URL(), Err: a.err}
	p.Cause, p.detail = a.cause()
	if identify == nil || len(a.said) > 0 {
		return p
	}
	if p.Cause == CauseHungUp && !a.server.TLS || p.Cause == CauseSilent || p.Cause == CauseNotTLS {
		found := identify()
		if cause, detail := a.otherwise(found); found != "" && cause != "" {
			p.Cause, p.detail = cause, detail
		}
	}
	return p
}

func (a *attempt) cause() (cause Cause, detail string) {
	if a.login == nil {
		return CauseLocalFile, ""
	}
	if cause, detail := a.connackCause(); cause != "" {
		return cause, detail
	}
	var record tls.RecordHeaderError
	if errors.As(a.err, &record) {
		a.said = record.RecordHeader[:]
		return a.otherwise(protocolOf(a.said))
	}
	switch cause, detail := tlsfile.Diagnose(a.err); {
	case cause == tlsfile.Handshake && strings.Contains(detail, "handshake failure") && !a.login.hasCertificate():
		// Only a client certificate is missing; TLS 1.2 has no alert for that.
		return Cause(tlsfile.ClientCertificate), detail + ", and no client certificate is configured"
	case cause != "":
		return Cause(cause), detail
	}
	if a.server.WebSocket && notWebSocket(a.err) {
		return CauseNotWebSocket, "it has no WebSocket for MQTT at this port and path, or requires other headers"
	}
	if cause := neterror.Dial(a.err); cause != "" {
		return Cause(cause), ""
	}
	switch {
	case errors.Is(a.err, ErrMalformed), errors.Is(a.err, ErrProtocol):
		if cause, detail := a.otherwise(protocolOf(a.said)); cause != "" {
			return cause, detail
		}
		return CauseNotMQTT, ""
	case a.handshake && closedByPeer(a.err):
		return CauseNotTLS, "it closes the connection when TLS begins"
	case neterror.IsTimeout(a.err) && a.handshake:
		return CauseSilent, fmt.Sprintf("no TLS handshake within %v", dialTimeout)
	case neterror.IsTimeout(a.err):
		return CauseSilent, fmt.Sprintf("no CONNACK within %v", connackTimeout)
	case closedByPeer(a.err):
		return CauseHungUp, ""
	}
	return CauseNetwork, ""
}

// connackCause classifies a refusal in CONNACK (§3.2.2.3).
func (a *attempt) connackCause() (Cause, string) {
	code := fmt.Sprintf("CONNACK %d", a.connack)
	switch a.connack {
	case packets.ErrRefusedBadProtocolVersion:
		return CauseVersion, code
	case packets.ErrRefusedIDRejected:
		return CauseClientID, code
	case packets.ErrRefusedServerUnavailable:
		return CauseUnavailable, code
	case packets.ErrRefusedBadUsernameOrPassword, packets.ErrRefusedNotAuthorised:
		if a.login.Username == "" && !a.login.hasCertificate() {
			return CauseNoCredentials, code
		}
		if a.connack == packets.ErrRefusedNotAuthorised {
			return CauseCredentials, code + ", not authorized"
		}
		return CauseCredentials, code + ", bad user name or password"
	}
	return "", ""
}

// otherwise returns the cause if the server speaks another protocol than expected.
func (a *attempt) otherwise(found protocol) (Cause, string) {
	switch {
	case found == "" && a.handshake:
		return CauseNotTLS, saying(a.said)
	case found == "" && len(a.said) > 0:
		return CauseNotMQTT, saying(a.said)
	case found == "":
		return "", ""
	case found == protocolTLS && !a.server.TLS:
		return CauseTLSPort, "it answers with TLS"
	case found == protocolMQTT && a.server.TLS && !a.server.WebSocket:
		return CausePlain, ""
	case found == protocolHTTP && a.server.TLS && a.server.WebSocket:
		return CausePlain, "it answers in plain HTTP"
	case found == protocolTLS || found == protocolMQTT:
		return "", "" // as it should
	}
	return CauseNotMQTT, "it is " + string(found)
}
