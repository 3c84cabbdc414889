package ingest

import (
	"context"
	"errors"
	"time"

	"mqtt-nats-bridge/internal/endpoint"
	"mqtt-nats-bridge/jetstream/conn"
)

// Status is a snapshot of an ingest.
type Status struct {
	Version  string             `json:"version"`
	Uptime   string             `json:"uptime"`
	Problems []endpoint.Problem `json:"problems,omitempty"`
	Warnings []endpoint.Problem `json:"warnings,omitempty"`
	Tables   []TableStatus      `json:"tables"`
}

// TableStatus describes one table and its consumer.
type TableStatus struct {
	Table    string `json:"table"`
	Stream   string `json:"stream"`
	Consumer string `json:"consumer"`
	// Rows counts rows added or replaced. Duplicates counts messages that were stored before or
	// were older than the stored row.
	Rows       uint64 `json:"rows"`
	Duplicates uint64 `json:"duplicates"`
	// ClockIgnored counts messages with an implausible ts.
	ClockIgnored uint64 `json:"clock_ignored"`
	Batches      uint64 `json:"batches"`
	Messages     uint64 `json:"messages"`
	Redelivered  uint64 `json:"redelivered"`
	// Acknowledged counts stored and acknowledged messages.
	Acknowledged uint64 `json:"acknowledged"`
	Retried      uint64 `json:"retried"`
	Quarantined  uint64 `json:"quarantined"`
	// Exchanges counts transactions, Failures the failed ones, and Halvings the batches halved to
	// find a failing row.
	Exchanges uint64 `json:"exchanges"`
	Failures  uint64 `json:"failures"`
	Halvings  uint64 `json:"halvings"`
	InHand    int    `json:"in_hand"`
	// Lag is the number of messages that no process has acknowledged. LagKnown reports whether the
	// server has reported it.
	Lag      uint64 `json:"lag"`
	LagKnown bool   `json:"lag_known"`
	// OldestSeconds is the time since the stream stored the oldest message in progress.
	OldestSeconds float64 `json:"oldest_seconds"`
}

// Tables returns the status of each table.
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

// Problems lists all problems that prevent messages from being stored.
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

// Warnings implements [endpoint.Program]. It lists failing single rows; all other problems make
// ingest unready.
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

/                             status page for a browser
/livez                        200 while the process is running
/readyz                       200, or 503 with the problems
/status                       tables, consumers, counts
/metrics                      for Prometheus
`
}
