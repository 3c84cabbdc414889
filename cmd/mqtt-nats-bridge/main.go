// Command mqtt-nats-bridge carries MQTT messages into NATS JetStream, checked and
// stored exactly once. Each command has a file of its own.
package main

import (
	"os"
	"syscall"
)

func main() {
	os.Exit(execute(untilSignal(os.Interrupt, syscall.SIGTERM), os.Args[1:]))
}
