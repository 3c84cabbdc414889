package config

import "strings"

// program is what differs between the configurations of the two programs.
type program struct {
	// name is what errors call it.
	name string
	// prefix begins its environment variables.
	prefix string
	// plain are the variables of others that it honours, weaker than its own:
	// name to path.
	plain [][2]string
}

func bridgeProgram() program {
	return program{name: "the bridge", prefix: "BRIDGE_", plain: [][2]string{{"MQTT_URL", "mqtt.url"}, {"NATS_URL", "nats.url"}}}
}

func ingestProgram() program {
	return program{name: "ingest", prefix: "INGEST_", plain: [][2]string{{"DATABASE_URL", "database.url"}, {"NATS_URL", "nats.url"}}}
}

// variable is the environment variable of a dotted path.
func (p program) variable(path string) string { return p.prefix + variableStem(path) }

func variableStem(path string) string { return strings.ToUpper(strings.ReplaceAll(path, ".", "_")) }

// provenance is where a configuration's values came from.
type provenance struct {
	// origins maps each path that was given to where; a default has none.
	origins  map[string]origin
	warnings []Error
}
