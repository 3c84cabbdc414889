package ingest

import (
	"strings"
	"sync"
	"time"

	"mqtt-nats-bridge/internal/endpoint"
	"mqtt-nats-bridge/jetstream/conn"
)

// rights are those that the NATS user lacks, without which nothing is pulled or nothing
// acknowledged. The server reports it to the connection alone: a pull then merely finds no
// messages, and an acknowledgement waits for no answer.
type rights struct {
	mu      sync.Mutex
	missing map[string]wrong // by subject
}

// missingFor is longer than a message that could not be acknowledged stays away, and
// than a pull.
const missingFor = 2 * time.Minute

// refused notes an error of the connection. known: it is of such a right; first: it was
// not met before, or not lately.
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
			Advice: "give it the permission; see nats.conf", Since: time.Now(),
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

// lacks is what comes of not publishing to a subject, and for which subjects that is so;
// empty where it is none of these.
func lacks(subject string) (of, what string) {
	switch {
	case strings.Contains(subject, ".API.CONSUMER.MSG.NEXT."):
		return subject, "nothing can be pulled"
	case strings.HasPrefix(subject, "$JS.ACK."):
		// Behind stream and consumer it says which message; before them, on newer
		// servers, of which account.
		tokens := strings.Split(subject, ".")
		named := 4
		if len(tokens) > 9 {
			named = 6
		}
		return strings.Join(tokens[:min(named, len(tokens))], ".") + ".>", "what is stored cannot be acknowledged and comes again and again"
	}
	return "", ""
}

// granted forgets them all: on a new connection they may be others.
func (r *rights) granted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.missing)
}

func (r *rights) problems() []endpoint.Problem {
	r.mu.Lock()
	defer r.mu.Unlock()
	for subject, w := range r.missing {
		if time.Since(w.at) > missingFor {
			delete(r.missing, subject)
		}
	}
	return list(r.missing)
}
