package daemon

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/mqtt"
)

// mqttProblem puts what is wrong with a session into words that do not name the
// lane, so that lanes in the same trouble share one problem.
func mqttProblem(s *mqtt.Status) (problem, advice string) {
	switch {
	case s.Takeover:
		return "the broker keeps closing the connection soon after accepting it: another client seems to use the same client id",
			"stop the other bridge, or give this one another mqtt.client_id"
	case len(s.Refused) > 0 && strings.Contains(s.Problem, "granted at QoS 0 only"):
		return s.Problem, "allow QoS 1 at the broker (EMQX: mqtt.max_qos_allowed, mosquitto: max_qos)"
	case len(s.Refused) > 0:
		return s.Problem, "let mqtt.username subscribe to it in the broker's ACL"
	case s.Connected:
		return s.Problem, ""
	case strings.Contains(s.Problem, mqtt.ErrSubscriptionRefused.Error()):
		return s.Problem, "allow the bridge's user to subscribe to it in the broker's ACL; while a broker starts this passes by itself"
	}
	return withoutLocalAddress(s.Problem), connectionAdvice(s.Problem)
}

// connectionAdvice is what to do where there is no connection; empty where the
// sentence says it, or where waiting is all. A status carries the session's error
// as text: it is told by the words of the errors that package mqtt exports.
func connectionAdvice(problem string) string {
	is := func(err error) bool { return strings.Contains(problem, err.Error()) }
	switch {
	case is(mqtt.ErrCredentials):
		return "see that the broker knows mqtt.username with mqtt.password (or mqtt.password_file), and trusts the certificate in mqtt.tls.cert"
	case strings.Contains(problem, ": check "):
		return ""
	case strings.Contains(problem, "does not look like a TLS handshake"): // tls.RecordHeaderError
		return "nothing speaks TLS at this port: write mqtt:// in mqtt.url, or the port of the broker's TLS listener"
	case is(mqtt.ErrUnreachable):
		return "see that the broker runs at the host and port of mqtt.url and that no firewall is in the way; the bridge goes on trying"
	case is(mqtt.ErrRefused):
		return "see the broker's log; if this is a TLS port, write mqtts:// in mqtt.url"
	case is(mqtt.ErrClosedByBroker):
		return "see the broker's log for the reason; the bridge connects again"
	}
	return ""
}

// withoutLocalAddress takes the local end out of "read tcp LOCAL->REMOTE: …": its
// port is another one for each connection.
func withoutLocalAddress(text string) string {
	local, remote, ok := strings.Cut(text, "->")
	if !ok {
		return text
	}
	return local[:strings.LastIndexByte(local, ' ')+1] + remote
}

// journalAdvice is what to do where a lane cannot have its journal.
func journalAdvice(err error) string {
	switch {
	case errors.Is(err, bridge.ErrJournalLocked):
		return "another bridge runs with this state_dir: stop it, or give this one its own state_dir and mqtt.client_id"
	case errors.Is(err, syscall.EROFS):
		return "state_dir is on a read-only file system: name a directory that can be written, in a container a volume"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "free space where state_dir is: each lane's journal takes about 1 MiB"
	case errors.Is(err, fs.ErrPermission):
		return "let the user that runs the bridge write state_dir"
	}
	return "see that state_dir is a directory that the bridge can write"
}
