package ingest

import (
	"maps"
	"strings"
	"sync"
	"time"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/endpoint"
	"mqtt-nats-bridge/jetstream/conn"
)

// rights records the missing permissions of the NATS user that prevent pulling or acknowledging
// messages. The server reports a violation only to the connection: a pull just finds no messages,
// and an acknowledgement has no answer.
type rights struct {
	mu      sync.Mutex
	missing map[string]wrong // by subject
}

// missingFor is the time after which a missing permission is forgotten. It is longer than the
// redelivery delay of an unacknowledged message, and longer than a pull.
const missingFor = 2 * time.Minute

// refused records an error of the connection. known reports whether it is such a violation. first
// reports whether it has not occurred recently.
func (r *rights) refused(err error) (known, first bool) {
	denied := conn.Permission(err)
	if denied == nil || denied.Operation != "publish to" {
		return false, false
	}
	subject, what := lacks(denied.Subject)
	if subject == "" {
		return false, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old, was := r.missing[subject]
	if !was || time.Since(old.at) > missingFor {
		old.Problem = endpoint.Problem{
			Component: "nats", Problem: "the NATS user may not publish to " + subject + ": " + what,
			Advice: advice.For(&conn.PermissionError{Operation: denied.Operation, Subject: subject}), Since: time.Now(),
		}
		first = true
	}
	old.at = time.Now()
	if r.missing == nil {
		r.missing = map[string]wrong{}
	}
	r.missing[subject] = old
	return true, first
}

// lacks returns the effect of a missing permission to publish to a subject, and the pattern of
// subjects with the same effect. Both are empty for other subjects.
func lacks(subject string) (of, what string) {
	switch {
	case strings.Contains(subject, ".API.CONSUMER.MSG.NEXT."):
		return subject, "nothing can be pulled"
	case strings.HasPrefix(subject, "$JS.ACK."):
		// The tokens after stream and consumer identify the message. On newer servers, tokens
		// before them identify the account.
		tokens := strings.Split(subject, ".")
		named := 4
		if len(tokens) > 9 {
			named = 6
		}
		return strings.Join(tokens[:min(named, len(tokens))], ".") + ".>", "stored messages cannot be acknowledged and are redelivered forever"
	}
	return "", ""
}

// granted forgets all missing permissions: a new connection may have others.
func (r *rights) granted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.missing)
}

func (r *rights) problems() []endpoint.Problem {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.missing, func(_ string, w wrong) bool { return time.Since(w.at) > missingFor })
	return list(r.missing)
}
