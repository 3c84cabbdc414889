package schema

import "strings"

// Program is what differs between the configurations of programs.
type Program struct {
	// Name is what errors call it.
	Name string
	// Prefix begins its environment variables.
	Prefix string
	// Plain are the variables of others that it honours, weaker than its own:
	// name to path.
	Plain [][2]string
}

// Variable returns the environment variable of a dotted path: BRIDGE_MQTT_KEEPALIVE for
// mqtt.keepalive.
func (p Program) Variable(path string) string { return p.Prefix + variableStem(path) }

func variableStem(path string) string { return strings.ToUpper(strings.ReplaceAll(path, ".", "_")) }
