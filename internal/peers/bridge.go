package peers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// BridgeOptions configures one run of mqtt-nats-bridge.
type BridgeOptions struct {
	// Args is the command line without the program's name.
	Args []string
	// Config is the text of a configuration file, passed as --config.
	Config string
	// Env contains additional variables, KEY=value. Variables of the test's environment that would
	// configure the bridge are not passed on.
	Env []string
}

// BridgeProcess is a process of mqtt-nats-bridge. It counts as started once it runs. Its readiness is
// reported by its admin endpoint and its log.
type BridgeProcess struct{ Process }

// Bridge builds and runs this module's mqtt-nats-bridge.
func Bridge(t testing.TB, o BridgeOptions) *BridgeProcess {
	t.Helper()
	b := &BridgeProcess{}
	b.Process = Process{t: t, name: "mqtt-nats-bridge", path: Program(t, "mqtt-nats-bridge"), args: o.Args}
	if o.Config != "" {
		file := filepath.Join(t.TempDir(), "bridge.yaml")
		b.must(os.WriteFile(file, []byte(o.Config), 0o600))
		b.args = append(b.args, "--config="+file)
	}
	b.env = append(neutralEnv(os.Environ()), o.Env...)
	b.start()
	return b
}

// IngestProcess is a process of ingest. It counts as started once it runs.
type IngestProcess struct{ Process }

// Ingest builds and runs this module's ingest with args. env contains additional variables,
// KEY=value. Variables of the test's environment do not configure it.
func Ingest(t testing.TB, env []string, args ...string) *IngestProcess {
	t.Helper()
	i := &IngestProcess{}
	i.Process = Process{t: t, name: "ingest", path: Program(t, "ingest"), args: args}
	i.env = append(neutralEnv(os.Environ()), env...)
	i.start()
	return i
}

// Program builds a program of this module and returns the path of the executable, whose file name is
// the program's name.
func Program(t testing.TB, name string) string {
	t.Helper()
	return build(t, "mqtt-nats-bridge/cmd/"+name)
}

// neutralEnv returns environ without the variables that configure the programs.
func neutralEnv(environ []string) []string {
	var neutral []string
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		if name == "NATS_URL" || name == "MQTT_URL" || name == "DATABASE_URL" || name == "COLUMNS" ||
			strings.HasPrefix(name, "BRIDGE_") || strings.HasPrefix(name, "INGEST_") || strings.HasPrefix(name, "PG") {
			continue
		}
		neutral = append(neutral, pair)
	}
	return neutral
}
