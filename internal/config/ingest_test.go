package config

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/golden"
	"mqtt-nats-bridge/internal/schema"
)

func loadIngest(t *testing.T, yaml string, env ...string) *Ingest {
	t.Helper()
	c, err := LoadIngest(Sources{File: write(t, "ingest.yaml", yaml), Env: env})
	require.NoError(t, err)
	return c
}

// ingestErrors is errors for the ingest program.
func ingestErrors(t *testing.T, s Sources) []string {
	t.Helper()
	_, err := LoadIngest(s)
	var all *Errors
	require.ErrorAs(t, err, &all)
	return strings.Split(strings.ReplaceAll(err.Error(), filepath.Dir(s.File)+"/", ""), "\n")
}

func TestIngestConfiguration(t *testing.T) {
	t.Parallel()
	t.Run("empty configuration has defaults", testEmptyConfigurationHasDefaults)
	t.Run("each key is a variable and a flag", testIngestConfigurationEachKeyIsAVariableAndAFlag)
	t.Run("standard variables are honoured", testStandardVariablesAreHonoured)
	t.Run("errors are reported together", testErrorsAreReportedTogether)
}

func testEmptyConfigurationHasDefaults(t *testing.T) {
	t.Parallel()
	golden.Require(t, "testdata/ingest-defaults.golden", loadIngest(t, "").String())
}

func testIngestConfigurationEachKeyIsAVariableAndAFlag(t *testing.T) {
	t.Parallel()
	n := requireEachKey(t, IngestProgram(), func() (*Ingest, *schema.Provenance) { c := &Ingest{}; return c, &c.Provenance })
	require.Greater(t, n, 30)
	require.True(t, strings.HasPrefix(IngestProgram().Variable("telemetry.workers"), "INGEST_"))
}

func testStandardVariablesAreHonoured(t *testing.T) {
	t.Parallel()
	c := loadIngest(t, "", "DATABASE_URL=postgres://u:hunter2@db/x", "NATS_URL=nats://n:1", "MQTT_URL=rubbish", "BRIDGE_RUBBISH=1", "INGEST_CONFIG=x")
	require.Equal(t, "postgres://u@db/x", c.Database.URL.String())
	require.Equal(t, "postgres://u:hunter2@db/x", c.Database.URL.Reveal(Secret{}))
	require.Equal(t, "nats://n:1", c.NATS.URL.String())
	require.Empty(t, c.Warnings())
	c = loadIngest(t, "database: {url: 'postgres://u@db/x?sslmode=require'}", "DATABASE_URL=postgres://other/x", "INGEST_DATABASE_URL=postgres://strongest/x")
	require.Equal(t, "postgres://strongest/x", c.Database.URL.String())
	c = loadIngest(t, "database: {url: 'postgres://u@db/x?sslmode=require', password: 'hunter2@'}")
	require.Equal(t, "postgres://u:hunter2%40@db/x?sslmode=require", c.Database.URL.Reveal(c.Database.Password))
	require.NotContains(t, c.String(), "hunter2")
}

func testErrorsAreReportedTogether(t *testing.T) {
	t.Parallel()
	got := ingestErrors(t, Sources{File: write(t, "ingest.yaml", `
database:
  url: mysql://u:hunter2@db/x
  timeout: soon
nats: {user: ingest}
telemetry: {workers: 0, stream: "a.b"}
shadow: {consumer: ""}
commands: {stream: SHADOW, consumer: ingest-shadow}
batch: {mesages: 5}
admin: {listen: nowhere}
`), Env: []string{"INGEST_BATCH_FLUSH=1h", "INGEST_BATCH_FLUHS=1s"}})
	golden.Require(t, "testdata/ingest-errors.golden", strings.Join(got, "\n")+"\n")
	require.NotContains(t, strings.Join(got, ""), "hunter2")
	require.Equal(t, []string{"INGEST_TELEMETRY_STREAM: is empty, and so are all other streams; name at least one"},
		ingestErrors(t, Sources{Env: []string{"INGEST_TELEMETRY_STREAM=", "INGEST_SHADOW_STREAM=", "INGEST_COMMANDS_STREAM="}}))
	require.Equal(t, []string{"ingest.yaml:1: database.password: gives a password, and database.url also contains one; keep one of the two"},
		ingestErrors(t, Sources{File: write(t, "ingest.yaml", "database: {url: 'postgres://u:p@h/x', password: q}")}))
}
