package registry

import (
	"context"
	"crypto/tls"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Found is what a look at the database shows.
type Found struct {
	TLS bool
	// Triggers counts those of the table, whatever they do.
	Triggers int
}

// Probe connects, listens and reads as the bridge does, no row of it. Its errors know what
// can be done about them.
func Probe(ctx context.Context, url string) (Found, error) {
	var found Found
	c, err := connConfig(url)
	if err != nil {
		return found, err
	}
	db, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return found, &databaseError{fmt.Errorf("connect to the database: %w", err)}
	}
	defer func() { _ = db.Close(ctx) }() // nothing was written
	_, found.TLS = db.PgConn().Conn().(*tls.Conn)
	if _, err := db.Exec(ctx, "LISTEN "+Table); err != nil {
		return found, &databaseError{fmt.Errorf("listen for changes: %w", err)}
	}
	if _, err := db.Exec(ctx, columns+" LIMIT 0"); err != nil {
		return found, &databaseError{fmt.Errorf("read %s: %w", Table, err)}
	}
	err = db.QueryRow(ctx, `SELECT count(*) FROM pg_trigger WHERE tgrelid = to_regclass($1) AND NOT tgisinternal`, Table).Scan(&found.Triggers)
	if err != nil {
		return found, &databaseError{fmt.Errorf("look for triggers: %w", err)}
	}
	return found, nil
}
