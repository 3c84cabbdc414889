// Command ingest writes the bridge's JetStream streams into PostgreSQL, each message
// exactly once. Each command has a file of its own.
package main

import (
	"os"
	"syscall"

	"mqtt-nats-bridge/internal/cli"
)

func main() {
	os.Exit(execute(cli.UntilSignal(os.Interrupt, syscall.SIGTERM), os.Args[1:]))
}
