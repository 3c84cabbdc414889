// Command mqtt-nats-bridge moves MQTT messages into NATS JetStream: validated, in per-device order,
// exactly once. Each command is in its own file.
package main

import (
	"os"

	"github.com/alecthomas/kong"

	"mqtt-nats-bridge/internal/cli"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/plan"
)

// version, commit and date are set by the linker: -ldflags "-X main.version=1.0.0 -X main.commit=…
// -X main.date=…". If they are empty, the build information that Go records is used.
var version, commit, date string

// program is the argument of every command's Run.
type program = cli.Program[*config.Config]

func main() {
	line := &commands{}
	os.Exit(cli.Main(&program{
		Build: cli.ReadBuild("mqtt-nats-bridge", cli.Linked{Version: version, Commit: commit, Date: date},
			"github.com/eclipse/paho.mqtt.golang", "github.com/nats-io/nats.go", "github.com/nats-io/nats-server/v2"),
		Description: description, Schema: config.BridgeProgram(), Empty: &config.Config{},
		Read: func(s config.Sources) (*config.Config, error) { return config.Load(s, plan.Validate) },
		Keys: config.BridgeKeys(), Example: "limits.payload=64KiB",
	}, line, &line.Settings, kong.Vars(drillDefaults())))
}
