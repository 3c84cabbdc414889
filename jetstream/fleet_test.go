package jetstream_test

import (
	"time"

	"mqtt-nats-bridge/jetstream"
)

// fleetStreams are streams such as a fleet of devices has.
func fleetStreams() []jetstream.StreamSpec {
	const day, gib = 24 * time.Hour, 1 << 30
	return []jetstream.StreamSpec{
		{Name: "TELEMETRY", Subjects: []string{"tenant.*.device.*.*"}, MaxAge: day, MaxBytes: 10 * gib},
		{Name: "SHADOW", Subjects: []string{"tenant.*.device.*.shadow.reported"}, MaxAge: day, MaxBytes: gib},
		{Name: "COMMANDS", Subjects: []string{"tenant.*.device.*.commands.ack"}, MaxAge: day, MaxBytes: gib},
		{Name: "QUARANTINE", Subjects: []string{"quarantine.>"}, MaxAge: 7 * day, MaxBytes: gib, MaxMsgsPerSubject: 1000},
	}
}

func fleetConsumers() []jetstream.ConsumerSpec {
	return []jetstream.ConsumerSpec{
		{Stream: "TELEMETRY", Name: "ingest-workers"},
		{Stream: "SHADOW", Name: "ingest-shadow"},
		{Stream: "COMMANDS", Name: "ingest-commands"},
	}
}
