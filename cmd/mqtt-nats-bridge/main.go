// Command mqtt-nats-bridge moves MQTT messages into NATS JetStream: validated, in per-device order,
// exactly once. Each command is in its own file.
package main

import (
	"os"
	"syscall"

	"mqtt-nats-bridge/internal/cli"
)

func main() {
	os.Exit(execute(cli.UntilSignal(os.Interrupt, syscall.SIGTERM), os.Args[1:]))
}
