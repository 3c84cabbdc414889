package account

import (
	"errors"
	"strings"

	"mqtt-nats-bridge/internal/tlsfile"
	"mqtt-nats-bridge/jetstream"
)

// Advice is what an operator can do about err, in one sentence, the same in the log, in
// check and in /readyz; empty where there is none. It knows failed attempts to connect
// (jetstream.ConnectProblem) and missing permissions (jetstream.PermissionError).
func Advice(err error) string {
	var denied *jetstream.PermissionError
	if !errors.As(err, &denied) {
		denied = jetstream.Permission(err)
	}
	if denied != nil {
		text := "allow the NATS user to " + denied.Operation + " " + denied.Subject
		if strings.Contains(denied.Subject, ".API.STREAM.CREATE.") {
			return text + ", or create the stream by hand and set streams.manage: verify"
		}
		return text + "; nats.conf has all permissions that are needed"
	}
	if errors.Is(err, tlsfile.ErrEncryptedKey) {
		return "name a file that holds the key's passphrase in nats.tls.passphrase_file"
	}
	if errors.Is(err, tlsfile.ErrPassphrase) {
		return "correct the passphrase in nats.tls.passphrase_file"
	}
	var problem jetstream.ConnectProblem
	if errors.As(err, &problem) {
		return advice[problem.Cause]
	}
	return ""
}

var advice = map[jetstream.Cause]string{
	jetstream.CauseHost:         "correct the host in nats.url, or its name service",
	jetstream.CauseRefused:      "nothing listens there: start nats-server, or correct the port in nats.url",
	jetstream.CauseNoAnswer:     "correct the address in nats.url, or open the firewall on the way",
	jetstream.CauseSilent:       "if the server's tls block has handshake_first, set nats.tls.handshake_first: true; else correct the port in nats.url, which must be that of nats-server's clients",
	jetstream.CauseHungUp:       "the server's log says why it closed the connection",
	jetstream.CauseNetwork:      "check nats.url and the network",
	jetstream.CauseNotNATS:      "correct the port in nats.url: another program listens there",
	jetstream.CauseNotClients:   "correct the port in nats.url: it is for other servers; clients have 4222 by default",
	jetstream.CauseNotWebSocket: "write nats:// or tls:// in nats.url, or the port of the server's websocket block",

	jetstream.CauseCredentials: "the server must know the user, token, nkey or creds in nats, with this secret; a secret in a file is read again at each connect",
	jetstream.CauseExpired:     "issue new credentials and replace the file; it is read again at each connect",
	jetstream.CauseLocalFile:   "make the file readable and correct; it is read again at each connect",

	jetstream.CauseServerLimit:  "raise max_connections in the server's configuration: the bridge needs one connection for each lane and two more, ingest one",
	jetstream.CauseAccountLimit: "raise the connection limit of the account or user at the server: the bridge needs one connection for each lane and two more, ingest one",

	jetstream.CausePlain:        "give the server a tls block, or write nats:// in nats.url and drop nats.tls",
	jetstream.CauseGreetsFirst:  "drop nats.tls.handshake_first, or set handshake_first in the server's tls block",
	jetstream.CauseNotTLS:       "correct the port in nats.url: what listens there does not speak TLS",
	jetstream.CauseAuthority:    "name the CA that issued the server's certificate in nats.tls.ca",
	jetstream.CauseChain:        "if the issuer is an intermediate CA, append its certificate to the server's cert_file; if it is a root CA, name it in nats.tls.ca",
	jetstream.CauseNoSAN:        "issue the server a certificate with its host as subject alternative name; nats.tls.server_name does not help",
	jetstream.CauseHostname:     "write a host in nats.url that the certificate is for, name one in nats.tls.server_name, or issue the server a certificate for this host",
	jetstream.CauseDates:        "renew the server's certificate, or set the clock of this machine",
	jetstream.CauseUsage:        "issue the server a certificate with the extended key usage serverAuth",
	jetstream.CauseClientCert:   "name a client certificate in nats.tls.cert and nats.tls.key whose CA is in the ca_file of the server's tls block",
	jetstream.CauseTLSVersion:   "let the server speak TLS 1.2 or later",
	jetstream.CauseTLSHandshake: "the server's log says what it missed; compare its tls block with nats.tls",
}
