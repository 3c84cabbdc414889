package ingest

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/jetstream/consume"
	"mqtt-nats-bridge/subjects"
)

// row is one message to be stored in a table.
type row struct {
	message *consume.Message
	// key determines the lock order. Concurrent writers must lock in the same order; otherwise they
	// deadlock.
	key   string
	tuple []byte // in COPY format; several tuples in sequence if an array was split
	// tuples is the number of table rows in tuple.
	tuples int
	// clockIgnored reports whether the message has an implausible ts.
	clockIgnored bool
	// once means that the key alone identifies a duplicate. The time does not: each copy in the
	// stream has a different one.
	once bool
	// copies are duplicates in the same batch, which are settled like this message.
	copies []*consume.Message
}

func (r row) compare(other row) int { return cmp.Compare(r.key, other.key) }

// each calls give with the message and its copies.
func (r row) each(give func(*consume.Message)) {
	give(r.message)
	for _, m := range r.copies {
		give(m)
	}
}

// merge combines adjacent duplicates into one row. The SQL statement cannot do it, because it does
// not see the rows that it adds itself.
func merge(rows []row) []row {
	kept := rows[:0]
	for _, r := range rows {
		if n := len(kept); n > 0 && r.once && kept[n-1].once && r.key == kept[n-1].key {
			kept[n-1].copies = append(kept[n-1].copies, r.message)
			continue
		}
		kept = append(kept, r)
	}
	return kept
}

// table is one destination.
type table struct {
	name string
	// stage creates the table that COPY fills. It is temporary, so it belongs to the connection, is
	// not logged and is emptied by each commit.
	stage string
	// load is the query of one exchange: COPY, then the statement that merges the stage into the
	// table. Sent as one query, it is one transaction.
	load string
	// missing selects the rows of the stage that the table contains neither in this version nor in
	// a newer one. It is valid only after load, within the same transaction.
	missing string
	// row converts a message to a row. The error is one sentence and permanent: retrying does not
	// help.
	row func(a address, m *consume.Message) (row, error)
}

// address contains the captures of a subject.
type address struct{ tenant, device, kind string }

// addresses parses subjects with the pattern of their topics.
type addresses struct{ pattern *subjects.Pattern }

// parseAddresses parses a pattern. If kinds is true, the pattern must contain {type}, for msg_type.
func parseAddresses(text string, kinds bool) (addresses, error) {
	pattern, err := subjects.ParsePattern(text)
	if err == nil {
		err = pattern.RequireDevice()
	}
	if err != nil {
		return addresses{}, err
	}
	if kinds && !strings.Contains(text, "{type}") {
		return addresses{}, errors.New("it lacks {type}, which goes into the column msg_type; write it like tenant/{tenant}/device/{device}/{type}")
	}
	return addresses{pattern}, nil
}

func (a addresses) of(m *consume.Message) (address, error) {
	topic, err := subjects.ToTopic(m.Subject)
	if err != nil {
		return address{}, fmt.Errorf("the subject is no topic: %w", err)
	}
	var match subjects.Match
	if !a.pattern.Match([]byte(topic), &match) {
		return address{}, fmt.Errorf("the subject %s does not fit the topic %s", m.Subject, a.pattern)
	}
	found := address{string(match.Tenant()), string(match.Device()), string(match.Get("type"))}
	for _, text := range []string{found.tenant, found.device, found.kind} {
		if err := storable("the topic", text); err != nil {
			return address{}, err
		}
	}
	return found, nil
}

// storable returns an error if PostgreSQL cannot store a text, which must be UTF-8 without NUL.
func storable(what, text string) error {
	if !utf8.ValidString(text) || strings.Contains(text, "\x00") {
		return fmt.Errorf("%s contains what PostgreSQL cannot store as text: it is not UTF-8", what)
	}
	return nil
}

// maxID bounds an indexed value, in bytes. PostgreSQL's own bound is 2,704.
const maxID = 1024

// identity returns the message's id, or an error if a column cannot store it.
func identity(m *consume.Message) (string, error) {
	id := m.ID()
	if len(id) > maxID {
		return "", fmt.Errorf("the message id has %d bytes; at most %d are understood", len(id), maxID)
	}
	return id, storable("the message id", id)
}

func commonName(m *consume.Message) (string, error) {
	cn := m.Header.Get(bridge.HeaderCN)
	return cn, storable("the certificate's CN", cn)
}

// maxTime is the latest time accepted in headers, 2100-01-01.
const maxTime = 4102444800

// received returns the time of receipt: the broker's time if the message has one, otherwise the
// stream's. byStream reports the latter case, in which a message and its copy have different times.
func received(m *consume.Message) (t time.Time, byStream bool) {
	if text := m.Header.Get(bridge.HeaderTime); text != "" {
		if t, err := time.Parse(time.RFC3339Nano, text); err == nil && t.Unix() >= 0 && t.Unix() < maxTime {
			return t, false
		}
	}
	return m.Time, true
}
