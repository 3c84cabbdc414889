// Package ingest writes the bridge's streams to PostgreSQL exactly once: a redelivered message does
// not change the tables.
//
// A message takes this path:
//
//   - ../../jetstream/consume/worker.go: pulled in a batch, leased while it is worked on
//   - row.go, payload/: what its subject, headers and payload mean;
//     what no table can take is poison here already
//   - telemetry.go, state.go, commands.go: the row of each table, and the statement
//     that merges a batch of them
//   - copy.go: rows as PostgreSQL's binary COPY
//   - writer.go: one exchange with the database a batch; what becomes of a failure
//     (pgerror.go decides once); a batch with a row that fails is halved
//   - ../../jetstream/consume/worker.go again: acknowledged, nak'ed, or to quarantine
//
// ingest.go starts and stops all that, migrate.go creates the tables, status.go and
// metrics.go report its state, progress.go shows it on a terminal.
package ingest
