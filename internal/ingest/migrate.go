package ingest

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// versionTable is not goose's default name: another program may use the same database.
const versionTable = "ingest_migrations"

// Migration is one applied migration.
type Migration struct {
	Version int64
	Name    string
}

// ErrNotMigrated means that the tables have not been migrated to this version.
var ErrNotMigrated = errors.New("the tables are not there yet")

// Migrate migrates the tables to this version and returns the applied migrations. Processes can
// call it concurrently: one migrates, the others wait.
func Migrate(ctx context.Context, conf *pgx.ConnConfig) ([]Migration, error) {
	var steps []Migration
	err := withMigrations(conf, func(p *goose.Provider) error {
		// A user without permission to create tables can still run if all of them exist.
		pending, err := p.HasPending(ctx)
		if err != nil || !pending {
			return err
		}
		results, err := p.Up(ctx)
		for _, r := range results {
			steps = append(steps, Migration{r.Source.Version, r.Source.Path})
		}
		return err
	})
	if err != nil {
		return steps, &migrateError{err}
	}
	return steps, nil
}

// migrateError means that a migration failed or could not begin.
type migrateError struct{ err error }

func (e *migrateError) Error() string { return "migrate the tables: " + e.err.Error() }
func (e *migrateError) Unwrap() error { return e.err }

// migrated returns nil if no migrations are pending.
func migrated(ctx context.Context, conf *pgx.ConnConfig) error {
	return withMigrations(conf, func(p *goose.Provider) error {
		pending, err := p.HasPending(ctx)
		if err == nil && pending {
			err = ErrNotMigrated
		}
		return err
	})
}

func withMigrations(conf *pgx.ConnConfig, do func(*goose.Provider) error) (err error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return err
	}
	db := sql.OpenDB(stdlib.GetConnector(*conf))
	defer func() { err = errors.Join(err, db.Close()) }()
	p, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName(versionTable), goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	return do(p)
}
