package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestPostgresRestart(t *testing.T) {
	t.Parallel()
	p := Postgres(t)
	query := func(sql string) (n int) {
		t.Helper()
		db, err := pgx.Connect(t.Context(), p.URL)
		require.NoError(t, err)
		defer db.Close(t.Context())
		require.NoError(t, db.QueryRow(t.Context(), sql).Scan(&n))
		return n
	}
	query("WITH t AS (SELECT 1) SELECT 1 FROM t")
	db, err := pgx.Connect(t.Context(), p.URL)
	require.NoError(t, err)
	_, err = db.Exec(t.Context(), "CREATE TABLE t AS SELECT 7 AS n")
	require.NoError(t, err)
	url := p.URL
	p.Restart() // with a client still connected
	require.Equal(t, url, p.URL)
	require.Equal(t, 7, query("SELECT n FROM t"))
	p.Kill9()
	p.Start()
	require.Equal(t, 7, query("SELECT n FROM t"))
	require.NoError(t, db.Close(t.Context()))
}

func TestPostgresLeftovers(t *testing.T) {
	t.Parallel()
	ended := exec.Command("true")
	require.NoError(t, ended.Run())
	dir := t.TempDir()
	left := filepath.Join(dir, fmt.Sprintf("%s%d-1", clusterPrefix, ended.Process.Pid))
	own := filepath.Join(dir, fmt.Sprintf("%s%d-1", clusterPrefix, os.Getpid()))
	other := filepath.Join(dir, clusterPrefix+"of-somebody")
	for _, path := range []string{left, own, other} {
		require.NoError(t, os.MkdirAll(filepath.Join(path, "base"), 0o700))
	}
	removeStale(dir)
	require.NoDirExists(t, left)
	require.DirExists(t, own)
	require.DirExists(t, other)
}
