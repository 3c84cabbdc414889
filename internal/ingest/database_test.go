package ingest

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/advice"
)

func TestDatabaseProblems(t *testing.T) {
	t.Parallel()
	t.Run("pooler in transaction mode is reported", testPoolerInTransactionModeIsReported)
	t.Run("problems are per table", testProblemsArePerTable)
}

// Seen with PgBouncer 1.18, pool_mode = transaction.
func testPoolerInTransactionModeIsReported(t *testing.T) {
	t.Parallel()
	for code, says := range map[string]string{"42P07": "already exists", "42P01": "does not exist"} {
		err := &pgconn.PgError{Code: code, Message: `relation "ingest_telemetry" ` + says}
		require.Contains(t, advice.For(&databaseError{err}), "set its pool_mode to session")
	}
	require.Contains(t, advice.For(&databaseError{&pgconn.PgError{Code: "42P01", Message: `relation "telemetry" does not exist`}}), "ingest migrate")
}

func testProblemsArePerTable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &database{log: zerolog.Nop(), wrong: map[string]wrong{}}
		d.fails("", errors.New("no tables"))
		time.Sleep(2 * wrongFor)
		require.Len(t, d.problems(), 1, "it is told once and stays so until the tables are there")
		d.works("")
		require.Empty(t, d.problems())

		began := time.Now()
		d.fails("telemetry", errors.New("away"))
		time.Sleep(time.Second)
		d.fails("device_state", errors.New("away"))
		require.Len(t, d.problems(), 1, "the same for both is told once")
		require.Equal(t, began, d.problems()[0].Since)
		d.works("telemetry")
		require.Len(t, d.problems(), 1)
		time.Sleep(wrongFor)
		d.fails("device_state", errors.New("away"))
		require.Len(t, d.problems(), 1)
		time.Sleep(wrongFor + time.Second)
		require.Empty(t, d.problems(), "another process has seen to it")
	})
}
