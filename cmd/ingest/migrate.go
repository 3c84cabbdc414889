package main

import (
	"context"
	"fmt"

	"mqtt-nats-bridge/internal/ingest"
)

// migrateCommand migrates the tables.
type migrateCommand struct{}

// Help returns the text of --help beyond the flags.
func (migrateCommand) Help() string {
	return `Creates missing tables, migrates the others to this version and exits. The database user needs permission to create and alter tables. ingest does the same at start; if database.migrate is false, it waits until the tables are migrated. The table ingest_migrations records the migrations. If the database has the extension timescaledb, telemetry becomes a hypertable.

Example: ingest migrate --database-url postgres://owner@postgres/telemetry`
}

// Run implements the command.
func (migrateCommand) Run(ctx context.Context, p *program) error {
	c, err := p.Load()
	if err != nil {
		return err
	}
	conf, err := ingest.ConnConfig(c)
	if err != nil {
		return err
	}
	steps, err := ingest.Migrate(ctx, conf.ConnConfig)
	for _, s := range steps {
		fmt.Fprintln(p.Out, "migrated", s.Name)
	}
	if err != nil {
		return err
	}
	if len(steps) == 0 {
		fmt.Fprintln(p.Out, "the tables are up to date")
	}
	return nil
}
