package postgres

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// connectTimeout bounds each connection attempt, unless the URL has a connect_timeout.
const connectTimeout = 10 * time.Second

// Config parses a database URL, or key=value pairs, and reads the current certificate files that it
// names. application is the application_name unless the URL has one. The error contains neither the
// URL nor a password.
func Config(url, application string) (*pgxpool.Config, error) {
	pool, err := pgxpool.ParseConfig(url)
	if err != nil {
		// pgx's own error text quotes the URL and masks the password only if it recognizes one.
		var parse *pgconn.ParseConfigError
		if errors.As(err, &parse) && parse.Unwrap() != nil {
			err = parse.Unwrap()
		}
		return nil, fmt.Errorf("is not a database URL like postgres://user:password@host:5432/database?sslmode=verify-full: %w", err)
	}
	c := pool.ConnConfig
	c.RuntimeParams["application_name"] = cmp.Or(c.RuntimeParams["application_name"], application)
	// Without it, a database with another encoding would read and write each non-ASCII letter as
	// several characters.
	c.RuntimeParams["client_encoding"] = "UTF8"
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, connectTimeout)
	return pool, nil
}
