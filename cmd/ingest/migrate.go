package main

import (
	"context"
	"fmt"

	"mqtt-nats-bridge/internal/ingest"
)

// migrateCommand makes the tables.
type migrateCommand struct{}

// Help is what --help says beyond the flags.
func (migrateCommand) Help() string {
	return `Makes the tables that are missing and brings the others to this version, as a user who may, and ends. ingest itself does it at start too; with database.migrate false it only waits until it has been done. What was done is kept in the table ingest_migrations. Where the database has the extension timescaledb, telemetry becomes a hypertable.

Example: ingest migrate --database-url postgres://owner@postgres/telemetry`
}

// Run implements the command.
func (migrateCommand) Run(ctx context.Context, p *program) error {
	c, err := p.load()
	if err != nil {
		return err
	}
	conf, err := ingest.ConnConfig(c)
	if err != nil {
		return err
	}
	steps, err := ingest.Migrate(ctx, conf.ConnConfig)
	for _, s := range steps {
		fmt.Fprintln(p.out, "migrated", s.Name)
	}
	if err != nil {
		return err
	}
	if len(steps) == 0 {
		fmt.Fprintln(p.out, "the tables are those of this version")
	}
	return nil
}
