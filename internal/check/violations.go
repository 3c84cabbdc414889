package check

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
)

// violations collects what NATS refuses. nats-server answers a publish without
// permission with an -ERR on the connection and the request with nothing, so
// that without this every refusal would be a timeout.
type violations struct {
	mu     sync.Mutex
	cancel context.CancelCauseFunc // of the request under way; nil: none
}

func newViolations() *violations { return &violations{} }

// note is the connection's error hook.
func (v *violations) note(err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cancel != nil {
		v.cancel(err)
	}
}

// guard bounds a request, one at a time: it ends after answerTimeout, or at once
// where NATS refuses it. stop must be called.
func (v *violations) guard(ctx context.Context) (_ context.Context, stop func()) {
	guarded, cancel := context.WithCancelCause(ctx)
	bounded, release := context.WithTimeout(guarded, answerTimeout)
	v.mu.Lock()
	v.cancel = cancel
	v.mu.Unlock()
	return bounded, func() {
		v.mu.Lock()
		v.cancel = nil
		v.mu.Unlock()
		release()
		cancel(nil)
	}
}

// explain replaces the error of a guarded request by the refusal behind it.
func (v *violations) explain(guarded context.Context, err error) error {
	if cause := context.Cause(guarded); errors.Is(cause, nats.ErrPermissionViolation) {
		return cause
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s: %w", answerTimeout, err)
	}
	return err
}

// refused tells whether NATS refused a guarded request.
func refused(guarded context.Context) bool {
	return errors.Is(context.Cause(guarded), nats.ErrPermissionViolation)
}
