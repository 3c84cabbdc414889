// Command ingest writes the bridge's JetStream streams to PostgreSQL, each message exactly once.
// Each command is in its own file.
package main

import (
	"os"

	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/ingest"
)

// version, commit and date are set by the linker: -ldflags "-X main.version=1.0.0 -X main.commit=…
// -X main.date=…". If they are empty, the build information that Go records is used.
var version, commit, date string

// program is the argument of every command's Run.
type program = cli.Program[*config.Ingest]

func main() {
	line := &commands{}
	os.Exit(cli.Main(&program{
		Build: cli.ReadBuild("ingest", cli.Linked{Version: version, Commit: commit, Date: date},
			"github.com/jackc/pgx/v5", "github.com/nats-io/nats.go", "github.com/pressly/goose/v3"),
		Description: description, Schema: config.IngestProgram(), Empty: &config.Ingest{},
		Read: func(s config.Sources) (*config.Ingest, error) { return config.LoadIngest(s, ingest.Check) },
		Keys: config.IngestKeys(), Example: "batch.messages=1000",
	}, line, &line.Settings))
}
