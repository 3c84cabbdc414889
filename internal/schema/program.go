package schema

import "strings"

// Program contains the names that differ between the configurations of programs.
type Program struct {
	// Name is the name of the program in errors.
	Name string
	// Prefix is the prefix of its environment variables.
	Prefix string
	// Plain contains pairs of a common variable, such as NATS_URL, and the path that it sets. The
	// program's own variables take precedence.
	Plain [][2]string
}

// Variable returns the environment variable of a dotted path, such as BRIDGE_MQTT_KEEPALIVE for
// mqtt.keepalive.
func (p Program) Variable(path string) string { return p.Prefix + variableStem(path) }

func variableStem(path string) string { return strings.ToUpper(strings.ReplaceAll(path, ".", "_")) }
