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

// row is one message on its way into a table.
type row struct {
	message *consume.Message
	// key is what two workers that write concurrently must not lock in another
	// order: they would wait for each other.
	key   string
	tuple []byte // as COPY has it; several, one behind the other, where an array was split
	// tuples is how many rows of the table tuple contains.
	tuples int
	// clockIgnored reports that the message has a ts that was not believed.
	clockIgnored bool
	// once means that the key alone says that it is the same message. Its time does not:
	// each copy in the stream has another.
	once bool
	// copies came in the same batch, and become of it what becomes of this.
	copies []*consume.Message
}

func (r row) compare(other row) int { return cmp.Compare(r.key, other.key) }

// each calls give for the message and its copies.
func (r row) each(give func(*consume.Message)) {
	give(r.message)
	for _, m := range r.copies {
		give(m)
	}
}

// merge puts copies, which are neighbours in rows, into one. The merging statement
// could not: it does not see what it adds.
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
	// stage creates the table that COPY fills: temporary, so that it is this
	// connection's own and never logged, and emptied by each commit.
	stage string
	// load is what one exchange runs: COPY, then the statement that merges the
	// stage into the table. Sent as one query it is one transaction.
	load string
	// missing selects the rows of the stage that are in the table neither as they are nor as
	// newer ones; it is right only after load, within the same transaction.
	missing string
	// row turns a message into a row. An error is what is wrong with the
	// message, in one sentence: no later attempt can succeed.
	row func(a address, m *consume.Message) (row, error)
}

// address is what a subject says.
type address struct{ tenant, device, kind string }

// addresses reads subjects by the pattern of their topics.
type addresses struct{ pattern *subjects.Pattern }

// parseAddresses checks a pattern; kinds: it must say what becomes msg_type.
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

// storable returns why a text cannot be stored: PostgreSQL's text is UTF-8 without NUL.
func storable(what, text string) error {
	if !utf8.ValidString(text) || strings.Contains(text, "\x00") {
		return fmt.Errorf("%s contains what PostgreSQL cannot store as text: it is not UTF-8", what)
	}
	return nil
}

// maxID bounds an indexed value, in bytes; an index takes 2,704.
const maxID = 1024

// identity is the message's id, fit for a column.
func identity(m *consume.Message) (string, error) {
	id := m.ID()
	if len(id) > maxID {
		return "", fmt.Errorf("the message id has %d bytes; at most %d are understood", len(id), maxID)
	}
	return id, storable("the message id", id)
}

func commonName(m *consume.Message) (string, error) {
	if m.Header == nil {
		return "", nil
	}
	cn := m.Header.Get(bridge.HeaderCN)
	return cn, storable("the certificate's CN", cn)
}

// maxTime bounds what the stream's headers may say, 2100-01-01.
const maxTime = 4102444800

// received is when the message was received: the broker's word where there is one, else the
// stream's. byStream reports that only the latter is known, which differs between a message
// and a copy of it.
func received(m *consume.Message) (t time.Time, byStream bool) {
	if m.Header != nil {
		if text := m.Header.Get(bridge.HeaderTime); text != "" {
			if t, err := time.Parse(time.RFC3339Nano, text); err == nil && t.Unix() >= 0 && t.Unix() < maxTime {
				return t, false
			}
		}
	}
	return m.Time, true
}
