// Command mqtt-nats-bridge carries MQTT messages into NATS JetStream, checked and
// stored exactly once. Each command has a file of its own.
package main

import (
	"os"
	"syscall"

	"mqtt-nats-bridge/internal/cli"
)

func main() {
	os.Exit(execute(cli.UntilSignal(os.Interrupt, syscall.SIGTERM), os.Args[1:]))
}
