package check

import (
	"context"
	"errors"
	"fmt"

	"mqtt-nats-bridge/jetstream/conn"
)

// violations matches permission violations to the requests that caused them.
type violations struct{ conn.Violations }

func newViolations() *violations { return &violations{} }

// note is the connection's error hook.
func (v *violations) note(err error) { v.Note(err) }

// guard bounds one request at a time. The context ends after answerTimeout, or immediately if NATS
// reports a permission violation. stop must be called.
func (v *violations) guard(ctx context.Context) (_ context.Context, stop func()) {
	guarded, end := v.Guard(ctx, func(*conn.PermissionError) bool { return true })
	bounded, release := context.WithTimeout(guarded, answerTimeout)
	return bounded, func() {
		release()
		end()
	}
}

// explain replaces the error of a guarded request with the permission violation that caused it.
func (v *violations) explain(guarded context.Context, err error) error {
	if refused(guarded) {
		return context.Cause(guarded)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s: %w", answerTimeout, err)
	}
	return err
}

// refused reports whether NATS reported a permission violation for a guarded request.
func refused(guarded context.Context) bool {
	var denied *conn.PermissionError
	return errors.As(context.Cause(guarded), &denied)
}
