package peers

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
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

// Bridge builds and runs this module's mqtt-nats-bridge. It counts as started once it runs. Its
// readiness is reported by its admin endpoint and its log.
func Bridge(t testing.TB, o BridgeOptions) *Process {
	t.Helper()
	args := o.Args
	if o.Config != "" {
		file := filepath.Join(t.TempDir(), "bridge.yaml")
		require.NoError(t, os.WriteFile(file, []byte(o.Config), 0o600))
		args = append(slices.Clip(args), "--config="+file)
	}
	return startProgram(t, "mqtt-nats-bridge", o.Env, args)
}

// Ingest builds and runs this module's ingest with args. env contains additional variables,
// KEY=value. Variables of the test's environment do not configure it. It counts as started once it
// runs.
func Ingest(t testing.TB, env []string, args ...string) *Process {
	t.Helper()
	return startProgram(t, "ingest", env, args)
}

func startProgram(t testing.TB, name string, env, args []string) *Process {
	t.Helper()
	p := &Process{t: t, name: name, path: Program(t, name), args: args, env: append(neutralEnv(os.Environ()), env...)}
	p.start()
	return p
}

// Program builds a program of this module and returns the path of the executable, whose file name is
// the program's name.
func Program(t testing.TB, name string) string {
	t.Helper()
	return build(t, "mqtt-nats-bridge/cmd/"+name)
}

// neutralEnv returns environ without the variables that configure the programs.
func neutralEnv(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return name == "NATS_URL" || name == "MQTT_URL" || name == "DATABASE_URL" || name == "COLUMNS" ||
			strings.HasPrefix(name, "BRIDGE_") || strings.HasPrefix(name, "INGEST_") || strings.HasPrefix(name, "PG")
	})
}
