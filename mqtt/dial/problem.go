package dial

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

var (
	// ErrUnreachable means that no TCP or TLS connection to the broker could be established.
	ErrUnreachable = errors.New("broker unreachable")
	// ErrCredentials means that the broker refused user name, password or client
	// certificate, or that they could not be read.
	ErrCredentials = errors.New("broker refused the credentials")
	// ErrRefused means that the broker answered CONNECT with another refusal, or by closing the
	// connection.
	ErrRefused = errors.New("broker refused the connection")
)

// Cause classifies a failed connection to a broker. It includes the causes of [tlsfile.Cause].
type Cause string

// The causes.
const (
	CauseNetwork        = Cause(neterror.Other)
	CauseHost           = Cause(neterror.Host)
	CauseRefused        = Cause(neterror.Refused)
	CauseNoAnswer       = Cause(neterror.NoAnswer)
	CauseSilent   Cause = "silent"  // connected, but no answer
	CauseHungUp   Cause = "hung_up" // closed instead of an answer

	CauseNotMQTT Cause = "not_mqtt" // another protocol
	CausePlain   Cause = "plain"    // MQTT without TLS, although TLS is configured
	CauseTLSPort Cause = "tls_port" // TLS, although none is configured
	CauseNotTLS  Cause = "not_tls"  // the answer is not TLS

	CauseNotWebSocket Cause = "no_websocket" // no WebSocket, or none at this path

	CauseVersion       Cause = "version"        // CONNACK 1
	CauseClientID      Cause = "client_id"      // CONNACK 2
	CauseUnavailable   Cause = "unavailable"    // CONNACK 3
	CauseCredentials   Cause = "credentials"    // CONNACK 4 or 5
	CauseNoCredentials Cause = "no_credentials" // CONNACK 4 or 5, without configured credentials
	CauseLocalFile     Cause = "local_file"     // a local file cannot be used
)

// sentences contains the text for each cause, which the cause's detail follows.
var sentences = map[Cause]string{
	CauseNetwork: "cannot be reached", CauseHost: "cannot be reached", CauseRefused: "cannot be reached", CauseNoAnswer: "cannot be reached",
	CauseSilent: "accepts the connection but does not answer", CauseHungUp: "closes the connection instead of answering CONNECT",
	CauseNotMQTT: "does not speak MQTT", CausePlain: "speaks MQTT without TLS", CauseTLSPort: "speaks TLS, which is not used here",
	CauseNotTLS: "does not answer with TLS", CauseNotWebSocket: "does not accept the WebSocket handshake",
	CauseVersion: "does not accept MQTT 3.1.1", CauseClientID: "refuses the client id", CauseUnavailable: "is not available",
	CauseCredentials: "refuses the credentials", CauseNoCredentials: "requires credentials, but none are configured",
	CauseLocalFile: "is not tried: a local file cannot be used",
}

// Problem is a classified failure of a connection attempt. errors.Is matches it with
// [ErrUnreachable], [ErrCredentials] and [ErrRefused].
type Problem struct {
	Cause Cause
	URL   string // of the listener
	Err   error

	detail string // replaces Err's text
}

// Error returns a sentence for the operator: what failed and where. It contains no secret and is
// the same for every connection with this problem.
func (p *Problem) Error() string {
	detail := p.detail
	if detail == "" && p.Err != nil {
		detail = neterror.WithoutLocalAddress(p.Err.Error())
	}
	sentence := cmp.Or(sentences[p.Cause], tlsfile.Cause(p.Cause).Sentence())
	return strings.TrimSuffix(fmt.Sprintf("broker at %s %s: %s", p.URL, sentence, detail), ": ")
}

// Unwrap returns the underlying error.
func (p *Problem) Unwrap() error { return p.Err }

// Is implements errors.Is for the errors of this package.
func (p *Problem) Is(kind error) bool {
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

// Attempt describes a failed connection attempt.
type Attempt struct {
	Server   Server
	Login    *Login // nil: it could not be read
	Connack  byte   // return code; 0: none was received
	Received []byte // first bytes received instead of a CONNACK
	NotMQTT  bool   // the answer is malformed, or a packet that a broker must not send
	Err      error
}

// Problem classifies the attempt. identify detects the protocol of a server that sent nothing; nil
// disables the detection.
func (a *Attempt) Problem(identify func() Protocol) *Problem {
	p := &Problem{URL: a.Server.URL(), Err: a.Err}
	p.Cause, p.detail = a.cause()
	if identify == nil || len(a.Received) > 0 {
		return p
	}
	if p.Cause == CauseHungUp && !a.Server.TLS || p.Cause == CauseSilent || p.Cause == CauseNotTLS {
		found := identify()
		if cause, detail := a.protocolMismatch(found); found != "" && cause != "" {
			p.Cause, p.detail = cause, detail
		}
	}
	return p
}

func (a *Attempt) cause() (cause Cause, detail string) {
	if a.Login == nil {
		return CauseLocalFile, ""
	}
	if cause, detail := a.connackCause(); cause != "" {
		return cause, detail
	}
	var record tls.RecordHeaderError
	if errors.As(a.Err, &record) {
		a.Received = record.RecordHeader[:]
		return a.protocolMismatch(protocolOf(a.Received))
	}
	switch cause, detail := tlsfile.Diagnose(a.Err); {
	case cause == tlsfile.Handshake && strings.Contains(detail, "handshake failure") && !a.Login.hasCertificate():
		// Only a client certificate is missing. TLS 1.2 has no alert for that.
		return Cause(tlsfile.ClientCertificate), detail + ", and no client certificate is configured"
	case cause != "":
		return Cause(cause), detail
	}
	if a.Server.WebSocket && notWebSocket(a.Err) {
		return CauseNotWebSocket, "it has no WebSocket for MQTT at this port and path, or requires other headers"
	}
	if cause := neterror.Dial(a.Err); cause != "" {
		return Cause(cause), ""
	}
	switch {
	case a.NotMQTT:
		if cause, detail := a.protocolMismatch(protocolOf(a.Received)); cause != "" {
			return cause, detail
		}
		return CauseNotMQTT, ""
	case a.handshake() && IsClosed(a.Err):
		return CauseNotTLS, "it closes the connection when TLS begins"
	case neterror.IsTimeout(a.Err) && a.handshake():
		return CauseSilent, fmt.Sprintf("no TLS handshake within %v", Timeout)
	case neterror.IsTimeout(a.Err):
		return CauseSilent, fmt.Sprintf("no CONNACK within %v", ConnackTimeout)
	case IsClosed(a.Err):
		return CauseHungUp, ""
	}
	return CauseNetwork, ""
}

// handshake reports whether the TLS handshake failed.
func (a *Attempt) handshake() bool {
	var failed *handshakeError
	return errors.As(a.Err, &failed)
}

// connackCause classifies a refusal in CONNACK (§3.2.2.3).
func (a *Attempt) connackCause() (Cause, string) {
	code := fmt.Sprintf("CONNACK %d", a.Connack)
	switch a.Connack {
	case packets.ErrRefusedBadProtocolVersion:
		return CauseVersion, code
	case packets.ErrRefusedIDRejected:
		return CauseClientID, code
	case packets.ErrRefusedServerUnavailable:
		return CauseUnavailable, code
	case packets.ErrRefusedBadUsernameOrPassword, packets.ErrRefusedNotAuthorised:
		if a.Login.Username == "" && !a.Login.hasCertificate() {
			return CauseNoCredentials, code
		}
		if a.Connack == packets.ErrRefusedNotAuthorised {
			return CauseCredentials, code + ", not authorized"
		}
		return CauseCredentials, code + ", bad user name or password"
	}
	return "", ""
}

// protocolMismatch returns the cause if the server speaks another protocol than expected.
func (a *Attempt) protocolMismatch(found Protocol) (Cause, string) {
	switch {
	case found == "" && a.handshake():
		return CauseNotTLS, quoteGreeting(a.Received)
	case found == "" && len(a.Received) > 0:
		return CauseNotMQTT, quoteGreeting(a.Received)
	case found == "":
		return "", ""
	case found == ProtocolTLS && !a.Server.TLS:
		return CauseTLSPort, "it answers with TLS"
	case found == ProtocolMQTT && a.Server.TLS && !a.Server.WebSocket:
		return CausePlain, ""
	case found == ProtocolHTTP && a.Server.TLS && a.Server.WebSocket:
		return CausePlain, "it answers in plain HTTP"
	case found == ProtocolTLS || found == ProtocolMQTT:
		return "", "" // the expected protocol
	}
	return CauseNotMQTT, "it is " + string(found)
}
