package advice

import (
	"cmp"
	"errors"
	"strings"

	"github.com/nats-io/nats.go"

	"mqtt-nats-bridge/internal/tlsfile"
	"mqtt-nats-bridge/jetstream/conn"
)

// permission returns advice about a missing permission of the NATS user.
func permission(err error) string {
	denied := conn.Permission(err)
	switch {
	case denied == nil && errors.Is(err, nats.ErrPermissionViolation):
		return "give the NATS user the permission; nats.conf contains all required permissions"
	case denied == nil:
		return ""
	}
	text := "allow the NATS user to " + denied.Operation + " " + denied.Subject
	if strings.Contains(denied.Subject, ".API.STREAM.CREATE.") {
		return text + ", or create the stream manually and set streams.manage: verify"
	}
	return text + "; nats.conf contains all required permissions"
}

// connection returns advice about a failed connection to NATS.
func connection(err error) string {
	if errors.Is(err, tlsfile.ErrEncryptedKey) || errors.Is(err, tlsfile.ErrPassphrase) {
		return File(err, "nats")
	}
	var problem conn.Problem
	switch {
	case !errors.As(err, &problem):
		if errors.Is(err, conn.ErrDisconnected) {
			return "the connection is retried; if this lasts, check that nats-server runs, and run `mqtt-nats-bridge check --connect`"
		}
		return ""
	case problem.Cause == conn.CauseLocalFile:
		return File(err, "nats")
	}
	return cmp.Or(connections[problem.Cause], TLS(tlsfile.Cause(problem.Cause), "nats"))
}

var connections = map[conn.Cause]string{
	conn.CauseHost:         "correct the host in nats.url, or fix name resolution",
	conn.CauseRefused:      "nothing listens there: start nats-server, or correct the port in nats.url",
	conn.CauseNoAnswer:     "correct the address in nats.url, or allow the connection in the firewalls on the path",
	conn.CauseSilent:       "if the server's tls block has handshake_first, set nats.tls.handshake_first: true; otherwise correct the port in nats.url, which must be nats-server's client port",
	conn.CauseHungUp:       "the server's log contains the reason why it closed the connection",
	conn.CauseNetwork:      "check nats.url and the network",
	conn.CauseNotNATS:      "correct the port in nats.url: another program listens there",
	conn.CauseNotClients:   "correct the port in nats.url: this one is for other servers; the default for clients is 4222",
	conn.CauseNotWebSocket: "write nats:// or tls:// in nats.url, or use the port of the server's websocket block",

	conn.CauseCredentials: "compare the credentials in nats with the users on the server; a secret in a file is read again at each connect",
	conn.CauseExpired:     "issue new credentials and replace the file; it is read again at each connect",

	conn.CauseServerLimit:  "raise max_connections in the server's configuration: the bridge needs one connection per lane and two more, ingest needs one",
	conn.CauseAccountLimit: "raise the connection limit of the account or user on the server: the bridge needs one connection per lane and two more, ingest needs one",

	conn.CausePlain:       "add a tls block to the server's configuration, or write nats:// in nats.url and remove nats.tls",
	conn.CauseGreetsFirst: "remove nats.tls.handshake_first, or set handshake_first in the server's tls block",
	conn.CauseNotTLS:      "correct the port in nats.url: the program that listens there does not speak TLS",
}
