package account

import (
	"cmp"
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
	if errors.Is(err, tlsfile.ErrEncryptedKey) || errors.Is(err, tlsfile.ErrPassphrase) {
		return FileAdvice(err, "nats")
	}
	var problem jetstream.ConnectProblem
	switch {
	case !errors.As(err, &problem):
		return ""
	case problem.Cause == jetstream.CauseLocalFile:
		return FileAdvice(err, "nats")
	}
	return cmp.Or(advice[problem.Cause], TLSAdvice(tlsfile.Cause(problem.Cause), "nats"))
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

	jetstream.CauseServerLimit:  "raise max_connections in the server's configuration: the bridge needs one connection for each lane and two more, ingest one",
	jetstream.CauseAccountLimit: "raise the connection limit of the account or user at the server: the bridge needs one connection for each lane and two more, ingest one",

	jetstream.CausePlain:       "give the server a tls block, or write nats:// in nats.url and drop nats.tls",
	jetstream.CauseGreetsFirst: "drop nats.tls.handshake_first, or set handshake_first in the server's tls block",
	jetstream.CauseNotTLS:      "correct the port in nats.url: what listens there does not speak TLS",
}
