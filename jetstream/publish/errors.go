package publish

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/bridge"
)

// Class determines how a failed publish is handled. Only Classify decides it.
type Class int

const (
	// Retry means that the cause is a connection, a server or a limit, and may be temporary. The
	// message is kept and resent.
	Retry Class = iota
	// Reject means that this message will never be stored; others may be.
	Reject
	// Stop means that no message will be stored until the configuration is changed. Messages are
	// kept.
	Stop
)

var (
	// ErrNoResponders means that no stream has the subject, or that JetStream currently has no
	// leader. The server's answer is the same for both (status 503, empty body).
	ErrNoResponders = errors.New("no stream has the subject, or JetStream is unavailable")
	// ErrNoStreamForSubject means that no stream has the subject, although streams have other
	// subjects of its kind.
	ErrNoStreamForSubject = errors.New("no stream has the subject")
	// ErrAckTimeout means that the oldest message was not answered in time. A server that cannot
	// write to its disk sends no answer.
	ErrAckTimeout = errors.New("no acknowledgement from JetStream in time")
	// errFenced means that [Options.Fenced] does not permit sending.
	errFenced = errors.New("waiting for the first check of the streams, or for the lease")
	// ErrBadAck means that the answer is not a PubAck.
	ErrBadAck = errors.New("unreadable answer from JetStream")
)

// APIError is JetStream's error answer to a publish.
type APIError struct {
	Code        int    `json:"code"`     // as in HTTP
	ErrCode     int    `json:"err_code"` // JetStream's own error number
	Description string `json:"description"`
}

func (e *APIError) Error() string {
	return fmt.Sprintf("JetStream error %d: %s", e.ErrCode, e.Description)
}

// Is reports whether the error is [bridge.ErrSubjectFull]. A stream that discards new messages per
// subject answers with the code of a full stream.
func (e *APIError) Is(target error) bool {
	return target == bridge.ErrSubjectFull && e.ErrCode == 10077 &&
		e.Description == "maximum messages per subject exceeded"
}

// apiError returns JetStream's error answer in err, whether this package or nats.go has parsed it;
// nil if there is none.
func apiError(err error) *APIError {
	if own, ok := errors.AsType[*APIError](err); ok {
		return own
	}
	if lib, ok := errors.AsType[*natsjs.APIError](err); ok {
		return &APIError{Code: lib.Code, ErrCode: int(lib.ErrorCode), Description: lib.Description}
	}
	return nil
}

// Classify returns how to handle err, from a publish or from a PubAck. The numbers are
// nats-server's (server/errors.json, 2.15). Unknown numbers are retried, because that loses
// nothing.
func Classify(err error) Class {
	if api := apiError(err); api != nil {
		if errors.Is(api, bridge.ErrSubjectFull) {
			return Reject // other subjects have room
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
