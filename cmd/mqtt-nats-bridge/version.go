package main

import "mqtt-nats-bridge/internal/cli"

// version is set by the linker: -ldflags "-X main.version=1.0.0". Without that
// it is the version of the module, as of the version control.
var version string

func readBuild() cli.Build {
	return cli.ReadBuild(version, "github.com/eclipse/paho.mqtt.golang", "github.com/nats-io/nats.go", "github.com/nats-io/nats-server/v2")
}

// versionCommand prints the build.
type versionCommand struct{}

// Run implements the command.
func (versionCommand) Run(p *program) error {
	readBuild().Print(p.out, programName)
	return nil
}
