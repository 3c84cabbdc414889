package cli

import (
	"fmt"
	"strings"

	"mqtt-nats-bridge/internal/config"
)

// Flag is a flag of its own for a key of the configuration.
type Flag struct {
	Name, Path string  // --mqtt-url, mqtt.url
	Value      *string // nil: not given, which is not the same as empty
}

// Flags are the values from a command line: flags, and set, which are KEY=VALUE pairs
// of --set and have the last word, for they name their key in full. example is such a
// pair, for a user who wrote something else.
func Flags(flags []Flag, set []string, example string) ([]config.Flag, error) {
	var given []config.Flag
	for _, f := range flags {
		if f.Value != nil {
			given = append(given, config.Flag{Name: f.Name, Path: f.Path, Value: *f.Value})
		}
	}
	for _, pair := range set {
		path, value, ok := strings.Cut(pair, "=")
		if !ok || path == "" {
			return nil, UsageError{fmt.Errorf("--set %q: write KEY=VALUE, like --set %s", pair, example)}
		}
		given = append(given, config.Flag{Name: "--set", Path: path, Value: value})
	}
	return given, nil
}
