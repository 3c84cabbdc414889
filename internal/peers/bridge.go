package peers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// BridgeOptions describe one run of mqtt-nats-bridge.
type BridgeOptions struct {
	// Args are the command line, without the program's name.
	Args []string
	// Config is the text of a configuration file, passed as --config.
	Config string
	// Env are further variables, KEY=value. Nothing that would configure the
	// bridge is taken from the test's own environment.
	Env []string
}

// BridgeProcess is mqtt-nats-bridge as a process. It counts as started when it
// runs: what it is ready for, its admin endpoint and its log tell.
type BridgeProcess struct{ Process }

// Bridge builds this module's mqtt-nats-bridge and runs it.
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

// IngestProcess is ingest as a process. It counts as started when it runs.
type IngestProcess struct{ Process }

// Ingest builds this module's ingest and runs it with args; env are further variables,
// KEY=value, and nothing else configures it.
func Ingest(t testing.TB, env []string, args ...string) *IngestProcess {
	t.Helper()
	i := &IngestProcess{}
	i.Process = Process{t: t, name: "ingest", path: Program(t, "ingest"), args: args}
	i.env = append(neutralEnv(os.Environ()), env...)
	i.start()
	return i
}

// Program builds a program of this module and returns the path of the executable,
// which is called as the program is.
func Program(t testing.TB, name string) string {
	t.Helper()
	return build(t, "mqtt-nats-bridge/cmd/"+name)
}

// neutralEnv leaves out what the programs read as configuration.
func neutralEnv(environ []string) []string {
	var kept []string
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		if name == "NATS_URL" || name == "MQTT_URL" || name == "DATABASE_URL" || name == "COLUMNS" ||
			strings.HasPrefix(name, "BRIDGE_") || strings.HasPrefix(name, "INGEST_") || strings.HasPrefix(name, "PG") {
			continue
		}
		kept = append(kept, pair)
	}
	return kept
}
