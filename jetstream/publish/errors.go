package publish

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/bridge"
)

// Class is how to handle a failed publish. It is decided here and nowhere
// else.
type Class int

const (
	// Retry means that the cause is a connection, a server or a limit, and may
	// pass. The message is kept and sent again.
	Retry Class = iota
	// Reject means that this message will never be stored; others may be.
	Reject
	// Stop means that no message will be stored until the
	// configuration is changed. Messages are kept; the advice says what to change.
	Stop
)

var (
	// ErrNoResponders means that no stream listens on the subject, or that JetStream has no leader
	// at present. The server's answer is the same (status 503, empty body).
	ErrNoResponders = errors.New("no stream has the subject, or JetStream is unavailable")
	// ErrNoStreamForSubject means that no stream has the subject, although streams have others of
	// its kind.
	ErrNoStreamForSubject = errors.New("no stream has the subject")
	// ErrAckTimeout means that the oldest message was not answered in time. A server that cannot
	// write to its disk sends no answer.
	ErrAckTimeout = errors.New("no acknowledgement from JetStream in time")
	// errFenced means that [Options.Fenced] forbids sending again.
	errFenced = errors.New("waiting for the first check of the streams, or for the lease")
	// ErrBadAck means that the answer is not a PubAck.
	ErrBadAck = errors.New("unreadable answer from JetStream")
)

// APIError is an error answered by JetStream to a publish.
type APIError struct {
	Code        int    `json:"code"`     // as in HTTP
	ErrCode     int    `json:"err_code"` // JetStream's own number
	Description string `json:"description"`
}

func (e *APIError) Error() string {
	return fmt.Sprintf("JetStream error %d: %s", e.ErrCode, e.Description)
}

// Is reports whether the error is [bridge.ErrSubjectFull]: a stream that discards
// new messages, each subject by itself, answers with the code of a full stream.
func (e *APIError) Is(target error) bool {
	return target == bridge.ErrSubjectFull && e.ErrCode == 10077 &&
		e.Description == "maximum messages per subject exceeded"
}

// apiError returns JetStream's answer in err, whether the publisher of this package or nats.go has
// parsed it. nil: there is none.
func apiError(err error) *APIError {
	var own *APIError
	if errors.As(err, &own) {
		return own
	}
	var lib *natsjs.APIError
	if errors.As(err, &lib) {
		return &APIError{Code: lib.Code, ErrCode: int(lib.ErrorCode), Description: lib.Description}
	}
	return nil
}

// Classify returns how to handle err, from a publish or from a PubAck. The
// numbers are nats-server's (server/errors.json, 2.15); unknown ones are
// retried, because that loses nothing.
func Classify(err error) Class {
	if api := apiError(err); api != nil {
		if errors.Is(api, bridge.ErrSubjectFull) {
			return Reject // other devices' subjects have room
		}
		switch api.ErrCode {
		case 10054, // message larger than the stream's max_msg_size
			10097, // headers over 64 KiB
			10165, // invalid per-message TTL
			10166: // per-message TTL not enabled
			return Reject
		case 10060, // another stream was expected
			10109, // stream sealed
			10076, // JetStream not enabled
			10039: // JetStream not enabled for the account
			return Stop
		}
		// 10008 JetStream temporarily unavailable, 10009 not the leader, 10118 stream offline,
		// 10158 the same id is in flight, 10023 10028 10047 10002 out of memory, disk or account
		// limits, 10167 too many requests, 10077 store failed: stream full with discard new, or the
		// disk.
		return Retry
	}
	switch {
	case errors.Is(err, ErrNoStreamForSubject), errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrBadSubject):
		return Reject
	case errors.Is(err, nats.ErrPermissionViolation),
		// nats.go also returns this before it has reached a server.
		errors.Is(err, nats.ErrHeadersNotSupported):
		return Stop
	}
	return Retry
}
