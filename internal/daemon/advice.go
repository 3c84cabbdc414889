package daemon

import (
	"errors"
	"io/fs"
	"syscall"

	"mqtt-nats-bridge/bridge/journal"
	"mqtt-nats-bridge/internal/neterror"
	"mqtt-nats-bridge/mqtt"
)

// mqttProblem describes the problem of a session without naming the lane, so that lanes with the
// same problem share one entry.
func mqttProblem(s *mqtt.Status) string {
	if s.Takeover {
		return "the broker keeps closing the connection soon after accepting it: another client seems to use the same client id"
	}
	return neterror.WithoutLocalAddress(s.Problem)
}

// journalAdvice returns the advice for a lane that cannot open its journal.
func journalAdvice(err error) string {
	switch {
	case errors.Is(err, journal.ErrLocked):
		return "another bridge runs with this state_dir: stop it, or give this one its own state_dir and mqtt.client_id"
	case errors.Is(err, errors.ErrUnsupported):
		return "leave state_dir empty"
	case errors.Is(err, syscall.EROFS):
		return "state_dir is on a read-only file system: use a writable directory, in a container a volume"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "free space where state_dir is: each lane's journal takes about 1 MiB"
	case errors.Is(err, fs.ErrPermission):
		return "let the user that runs the bridge write state_dir"
	}
	return "make sure that state_dir is a directory that the bridge can write"
}
