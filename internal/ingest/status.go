package ingest

import (
	"context"
	"errors"
	"time"

	"mqtt-nats-bridge/internal/endpoint"
	"mqtt-nats-bridge/jetstream/conn"
)

// Status is everything about an ingest at one moment.
type Status struct {
	Version  string             `json:"version"`
	Uptime   string             `json:"uptime"`
	Problems []endpoint.Problem `json:"problems,omitempty"`
	Warnings []endpoint.Problem `json:"warnings,omitempty"`
	Tables   []TableStatus      `json:"tables"`
}

// TableStatus is one table and the consumer that feeds it.
type TableStatus struct {
	Table    string `json:"table"`
	Stream   string `json:"stream"`
	Consumer string `json:"consumer"`
	// Rows were added; Duplicates had been before, or were older than what is
	// there.
	Rows       uint64 `json:"rows"`
	Duplicates uint64 `json:"duplicates"`
	// ClockIgnored are messages whose ts was not believed.
	ClockIgnored uint64 `json:"clock_ignored"`
	Batches      uint64 `json:"batches"`
	Messages     uint64 `json:"messages"`
	Redelivered  uint64 `json:"redelivered"`
	// Acknowledged to the stream: stored.
	Acknowledged uint64 `json:"acknowledged"`
	Retried      uint64 `json:"retried"`
	Quarantined  uint64 `json:"quarantined"`
	// Exchanges with the database, of which Failures failed; Halvings of a
	// batch, to find the row that fails.
	Exchanges uint64 `json:"exchanges"`
	Failures  uint64 `json:"failures"`
	Halvings  uint64 `json:"halvings"`
	InHand    int    `json:"in_hand"`
	// Lag are messages that no worker of any process has acknowledged, LagKnown
	// whether the server has told.
	Lag      uint64 `json:"lag"`
	LagKnown bool   `json:"lag_known"`
	// OldestSeconds is how long ago the stream took the oldest message in progress.
	OldestSeconds float64 `json:"oldest_seconds"`
}

// Tables is what became of the messages so far.
func (i *Ingest) Tables() []TableStatus {
	all := make([]TableStatus, 0, len(i.intakes))
	for _, in := range i.intakes {
		c, w := in.workers.Counts(), in.writer
		all = append(all, TableStatus{
			Table: w.table.name, Stream: in.consumer.Stream, Consumer: in.consumer.Name,
			Rows: w.rows.Load(), Duplicates: w.duplicates.Load(),
			ClockIgnored: w.clocksIgnored.Load(),
			Batches:      c.Batches, Messages: c.Messages, Redelivered: c.Redelivered,
			Retried: c.Retried, Quarantined: c.Quarantined,
			Exchanges: w.exchanges.Load(), Failures: w.failures.Load(), Halvings: w.halvings.Load(),
			InHand: c.InProgress, Lag: c.Pending + c.AckPending, LagKnown: !c.ObservedAt.IsZero(),
			OldestSeconds: c.OldestAge.Seconds(),
			Acknowledged:  c.Acked,
		})
	}
	return all
}

// Ready implements [endpoint.Program].
func (i *Ingest) Ready() (bool, []endpoint.Problem) {
	problems := i.Problems()
	return len(problems) == 0, problems
}

// Problems lists everything that keeps messages from reaching the tables.
func (i *Ingest) Problems() []endpoint.Problem {
	all := append(i.connection.Problems(), i.database.problems()...)
	if len(all) > 0 {
		return all // without a connection the state of the consumers is unknown
	}
	all = i.rights.problems()
	for _, in := range i.intakes {
		all = append(all, in.found.Problems()...)
		if !errors.Is(in.pulls.Err(), conn.ErrDisconnected) {
			all = append(all, in.pulls.Problems()...)
		}
		all = append(all, in.takes.Problems()...)
	}
	return all
}

// Warnings implements [endpoint.Program]: single rows that fail. Whatever else goes wrong
// here keeps messages from the tables.
func (i *Ingest) Warnings() []endpoint.Problem { return i.database.warnings() }

// Status implements [endpoint.Program].
func (i *Ingest) Status(context.Context) any {
	return Status{
		Version: i.opts.Version, Uptime: time.Since(i.started).Round(time.Second).String(),
		Problems: i.Problems(), Warnings: i.Warnings(), Tables: i.Tables(),
	}
}

// Index implements [endpoint.Program].
func (i *Ingest) Index() string {
	return `ingest

/                             all of it as a page, in a browser
/livez                        200 while the process serves
/readyz                       200, or 503 and what is in the way
/status                       tables, consumers, counts
/metrics                      for Prometheus
`
}
