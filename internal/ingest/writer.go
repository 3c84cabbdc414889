package ingest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"mqtt-nats-bridge/internal/sleep"
	"mqtt-nats-bridge/internal/tracing"
	"mqtt-nats-bridge/jetstream/consume"
)

const (
	// attempts is the number of attempts on a suspect batch before it is halved.
	attempts = 3
	pauseMin = 100 * time.Millisecond
	pauseMax = 10 * time.Second
)

// writer is a [consume.Handler] for one table.
type writer struct {
	table     *table
	addresses addresses
	database  *database
	timeout   time.Duration     // of one exchange
	tracing   *tracing.Exporter // nil: no spans
	stream    string
	consumer  string

	rows, duplicates, exchanges, failures, halvings atomic.Uint64
	clocksIgnored                                   atomic.Uint64
}

// handle stores a batch and settles each message. It returns when all are settled or ctx ends, with
// no other timeout.
func (w *writer) handle(ctx context.Context, batch []*consume.Message) {
	defer w.trace(batch, time.Now())
	rows := make([]row, 0, len(batch))
	for _, m := range batch {
		a, err := w.addresses.of(m)
		var r row
		if err == nil {
			r, err = w.table.row(a, m)
		}
		if err != nil {
			m.DeadLetter(err)
			continue
		}
		if r.clockIgnored {
			w.clocksIgnored.Add(1)
		}
		rows = append(rows, r)
	}
	slices.SortStableFunc(rows, row.compare)
	w.store(ctx, merge(rows), attempts)
}

// store writes rows, or halves the batch to find failing rows.
func (w *writer) store(ctx context.Context, rows []row, tries int) {
	if len(rows) == 0 {
		return
	}
	err := w.persist(ctx, rows, tries)
	switch {
	case err == nil:
		for _, r := range rows {
			r.each((*consume.Message).Ack)
			w.duplicates.Add(uint64(len(r.copies)))
		}
	case ctx.Err() != nil:
		// Stopped: the messages are not settled, so they are redelivered immediately.
	case len(rows) > 1:
		w.halvings.Add(1)
		half := len(rows) / 2
		w.store(ctx, rows[:half], 1)
		w.store(ctx, rows[half:], 1)
	case classify(err) == poison:
		cause := fmt.Errorf("%s does not take it: %s", w.table.name, (&databaseError{err}).Error())
		rows[0].each(func(m *consume.Message) { m.DeadLetter(cause) })
	default:
		w.database.refuses(w.table.name, rows[0].message.Sequence, err)
		rows[0].each(func(m *consume.Message) { m.Nak(later(m.Delivered)) })
	}
}

// later returns the redelivery delay of a message whose row failed alone.
func later(delivered uint64) time.Duration {
	return min(time.Second<<min(delivered, 8), 5*time.Minute)
}

// persist runs one transaction and retries it until it succeeds or one of its rows may be the
// cause. A lost answer is harmless, because the transaction is idempotent.
func (w *writer) persist(ctx context.Context, rows []row, tries int) error {
	wait := pauseMin
	for suspects := 0; ; {
		attempt, cancel := context.WithTimeout(ctx, w.timeout)
		added, err := w.database.exchange(attempt, w.table, rows)
		cancel()
		w.exchanges.Add(1)
		if err == nil {
			w.rows.Add(uint64(added))
			w.duplicates.Add(uint64(max(tuples(rows)-added, 0)))
			w.database.stores(w.table.name)
			return nil
		}
		w.failures.Add(1)
		if ctx.Err() != nil {
			return err // canceled by us: not a problem of the database
		}
		switch classify(err) {
		case poison:
			// The database answers and is not the cause.
			w.database.works(w.table.name)
			return err
		case suspect:
			if suspects++; suspects >= tries {
				return err
			}
		case retry:
			w.database.fails(w.table.name, err)
		case probe, stop:
			if errors.Is(err, context.DeadlineExceeded) {
				w.database.fails(w.table.name, err) // no answer, for any reason
			}
			if !w.takesNone(ctx) {
				w.database.fails(w.table.name, err)
				break
			}
			w.database.works(w.table.name)
			if suspects++; suspects >= tries {
				return err
			}
		}
		if !sleep.For(ctx, wait+rand.N(wait/2)) {
			return err
		}
		wait = min(2*wait, pauseMax)
	}
}

// takesNone distinguishes a table that accepts no rows from a row that the table refuses. It runs
// the same statement without rows. A problem of the statement or a missing grant fails again; a
// trigger, a policy or a compressed chunk does not.
func (w *writer) takesNone(ctx context.Context) bool {
	attempt, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	_, err := w.database.exchange(attempt, w.table, nil)
	return err == nil
}

// tuples returns the number of table rows in rows.
func tuples(rows []row) (n int64) {
	for _, r := range rows {
		n += int64(r.tuples)
	}
	return n
}
