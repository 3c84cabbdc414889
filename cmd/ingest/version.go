package main

import "mqtt-nats-bridge/internal/cli"

// version, commit and date are set by the linker: -ldflags "-X main.version=1.0.0 -X main.commit=…
// -X main.date=…". Without that they are those of the module and of the version control.
var version, commit, date string

func readBuild() cli.Build {
	return cli.ReadBuild(programName, cli.Linked{Version: version, Commit: commit, Date: date}, "github.com/jackc/pgx/v5", "github.com/nats-io/nats.go", "github.com/pressly/goose/v3")
}
