// Command ingest writes the bridge's JetStream streams to PostgreSQL, each message exactly once.
// Each command is in its own file.
package main

import (
	"os"
	"syscall"

	"mqtt-nats-bridge/internal/cli"
)

func main() {
	os.Exit(execute(cli.UntilSignal(os.Interrupt, syscall.SIGTERM), os.Args[1:]))
}
