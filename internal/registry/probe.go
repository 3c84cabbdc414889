package registry

import (
	"context"
	"crypto/tls"
	"fmt"
)

// Found is the result of a probe of the database.
type Found struct {
	TLS bool
	// Triggers is the number of triggers on the table, whatever they do.
	Triggers int
}

// Probe connects, listens and reads the table as the bridge does, but fetches no rows. Its errors
// implement advice.Adviser.
func Probe(ctx context.Context, url string) (Found, error) {
	var found Found
	c, err := connConfig(url)
	if err != nil {
		return found, err
	}
	db, err := connect(ctx, c)
	if err != nil {
		return found, &databaseError{err}
	}
	defer disconnect(ctx, db)
	_, found.TLS = db.PgConn().Conn().(*tls.Conn)
	if _, err := db.Exec(ctx, columns+" LIMIT 0"); err != nil {
		return found, &databaseError{fmt.Errorf("read %s: %w", Table, err)}
	}
	err = db.QueryRow(ctx, `SELECT count(*) FROM pg_trigger WHERE tgrelid = to_regclass($1) AND NOT tgisinternal`, Table).Scan(&found.Triggers)
	if err != nil {
		return found, &databaseError{fmt.Errorf("look for triggers: %w", err)}
	}
	return found, nil
}
