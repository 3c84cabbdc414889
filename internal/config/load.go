package config

import "mqtt-nats-bridge/internal/schema"

// These types are shared by both configurations.
type (
	// Error is one error of a configuration.
	Error = schema.Error
	// Errors contains all errors of a configuration.
	Errors = schema.Errors
	// Sources are the sources of a configuration.
	Sources = schema.Sources
	// Flag is a value from the command line.
	Flag = schema.Flag
	// Secret is a text that is never shown.
	Secret = schema.Secret
	// Bytes is a size.
	Bytes = schema.Bytes
)

// BridgeProgram returns the names under which the bridge's configuration is given.
func BridgeProgram() schema.Program {
	return schema.Program{Name: "the bridge", Prefix: "BRIDGE_", Plain: [][2]string{{"MQTT_URL", "mqtt.url"}, {"NATS_URL", "nats.url"}}}
}

// IngestProgram returns the names under which ingest's configuration is given.
func IngestProgram() schema.Program {
	return schema.Program{Name: "ingest", Prefix: "INGEST_", Plain: [][2]string{{"DATABASE_URL", "database.url"}, {"NATS_URL", "nats.url"}}}
}

// Load reads all sources and validates the configuration. The error is always a *[Errors] and
// contains every error, not only the first. Load opens all files that the configuration names; a
// missing file is an error.
//
// checks return errors that only the interpreter of the values can detect; see Config.ErrorAt. They
// also get values that already have an error. Their errors about such values are dropped.
func Load(s Sources, checks ...func(*Config) []Error) (*Config, error) {
	c := &Config{}
	l := &rules{Loader: schema.NewLoader(BridgeProgram(), c, &c.Provenance), c: c}
	l.Read(s)
	l.check()
	for _, check := range checks {
		l.Add(check(c)...)
	}
	if err := l.Err(); err != nil {
		return nil, err
	}
	c.warn()
	return c, nil
}

// String returns the effective configuration, one line per key, with the source of each value that
// is not a default; secrets are not shown.
func (c *Config) String() string { return schema.Lines(c.Settings()) }

// Settings returns the effective values and the source of each.
func (c *Config) Settings() []schema.Setting { return schema.Settings(c, &c.Provenance) }

// BridgeKeys returns the keys that most configurations of the bridge set.
func BridgeKeys() []string {
	return []string{
		"mqtt.url", "mqtt.client_id", "mqtt.username", "mqtt.password_file", "mqtt.tls.ca", "mqtt.tls.cert", "mqtt.tls.key", "mqtt.share",
		"lanes.partitions", "lanes.count", "topics", "identity.mode", "limits.payload", "limits.device.rate", "limits.device.burst",
		"nats.url", "nats.creds", "nats.user", "nats.password_file", "nats.tls.ca",
		"streams.manage", "streams.replicas", "state_dir", "admin.listen", "log.level",
	}
}

// IngestKeys returns the keys that most configurations of ingest set.
func IngestKeys() []string {
	return []string{
		"database.url", "database.password_file", "nats.url", "nats.creds", "nats.user", "nats.password_file", "nats.tls.ca",
		"telemetry.stream", "telemetry.workers", "telemetry.payload", "shadow.stream", "commands.stream", "admin.listen", "log.level",
	}
}
