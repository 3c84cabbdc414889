package conn

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

// PermissionError means that the NATS user lacks a permission.
type PermissionError struct {
	// Operation is "publish to" or "subscribe to".
	Operation string
	Subject   string
	err       error
}

// Error implements error.
func (e *PermissionError) Error() string {
	return fmt.Sprintf("the NATS user may not %s %s", e.Operation, e.Subject)
}

// Unwrap returns nats.go's error, a nats.ErrPermissionViolation.
func (e *PermissionError) Unwrap() error { return e.err }

// Permission returns the permission violation in err, parsed from the server's text if necessary;
// nil if there is none.
func Permission(err error) *PermissionError {
	if known, ok := errors.AsType[*PermissionError](err); ok {
		return known
	}
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return nil
	}
	text := err.Error()
	for _, kind := range []struct{ marker, operation string }{
		{`for Publish to "`, "publish to"}, {`for Subscription to "`, "subscribe to"},
	} {
		if _, rest, found := strings.Cut(text, kind.marker); found {
			subject, _, _ := strings.Cut(rest, `"`)
			return &PermissionError{kind.operation, subject, err}
		}
	}
	return nil
}

// Violations matches the permission violations of a connection to the requests that caused them. To
// a publish without permission nats-server answers with an -ERR on the connection, and the request
// gets no answer. Without Violations each refusal would be a timeout. The zero value is ready to
// use.
type Violations struct {
	mu      sync.Mutex
	guarded map[*guarded]struct{}
}

type guarded struct {
	cancel   context.CancelCauseFunc
	concerns func(*PermissionError) bool
}

// Note records an error of the connection; call it from [Hooks].Error. It reports whether it ended
// a guarded request.
func (v *Violations) Note(err error) bool {
	denied := Permission(err)
	if denied == nil {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	ended := false
	for g := range v.guarded {
		if g.concerns(denied) {
			g.cancel(denied)
			ended = true
		}
	}
	return ended
}

// Do calls request with a context that ends at a violation for which concerns returns true. In that
// case it returns the [PermissionError] instead of request's error.
func (v *Violations) Do(ctx context.Context, concerns func(*PermissionError) bool, request func(context.Context) error) error {
	ctx, stop := v.Guard(ctx, concerns)
	defer stop()
	err := request(ctx)
	if denied, ok := errors.AsType[*PermissionError](context.Cause(ctx)); ok && err != nil {
		return denied
	}
	return err
}

// Guard returns a context that ends at a violation for which concerns returns true. The context's
// cause is then a [PermissionError]. stop must be called.
func (v *Violations) Guard(ctx context.Context, concerns func(*PermissionError) bool) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	g := &guarded{cancel, concerns}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.guarded == nil {
		v.guarded = map[*guarded]struct{}{}
	}
	v.guarded[g] = struct{}{}
	return ctx, func() {
		v.mu.Lock()
		delete(v.guarded, g)
		v.mu.Unlock()
		cancel(nil)
	}
}
