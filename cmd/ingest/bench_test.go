package main

import (
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/testrun"
)

// The interrupt comes in the middle of a statement, after which pgx closes the connection.
func TestBenchInterrupt(t *testing.T) {
	t.Parallel()
	database := peers.Postgres(t, "fsync=off")
	db, err := pgx.Connect(t.Context(), database.URL)
	require.NoError(t, err)
	defer db.Close(t.Context())
	count := func(sql string) (n int) {
		require.NoError(t, db.QueryRow(t.Context(), "SELECT count(*) FROM "+sql).Scan(&n))
		return n
	}
	bench := peers.Command(t, "bench", "--database-url", database.URL, "--messages", "50000", "--rounds", "1")
	require.NoError(t, bench.Start())
	ended := make(chan error, 1)
	go func() { ended <- bench.Wait(); close(ended) }()
	t.Cleanup(func() { // a clean stop; otherwise its temporary objects would stay
		_ = bench.Process.Signal(os.Interrupt)
		<-ended
	})

	var schema string
	require.Eventually(t, func() bool {
		return db.QueryRow(t.Context(), "SELECT schemaname FROM pg_tables WHERE tablename = 'heap'").Scan(&schema) == nil
	}, testrun.Timeout, 10*time.Millisecond)
	// A separate connection: within a transaction pg_stat_activity does not change.
	other, err := pgx.Connect(t.Context(), database.URL)
	require.NoError(t, err)
	defer other.Close(t.Context())
	tx, err := other.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE "+schema+".bare")
	require.NoError(t, err)
	const standing = "pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE "
	require.Eventually(t, func() bool { return count(standing+"'COPY bare %'") > 0 }, testrun.Timeout, 10*time.Millisecond)
	require.NoError(t, bench.Process.Signal(os.Interrupt))
	require.Eventually(t, func() bool { return count(standing+"'DROP SCHEMA%'") > 0 || len(ended) > 0 }, testrun.Timeout, 10*time.Millisecond)
	require.NoError(t, tx.Rollback(t.Context()))
	require.Error(t, <-ended)
	require.Zero(t, count("pg_namespace WHERE nspname LIKE 'ingest_bench_%'"))
}
