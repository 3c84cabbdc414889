package streams_test

import (
	"time"

	"mqtt-nats-bridge/jetstream/streams"
)

// fleetStreams are typical streams of a fleet of devices.
func fleetStreams() []streams.Spec {
	const day, gib = 24 * time.Hour, 1 << 30
	return []streams.Spec{
		{Name: "TELEMETRY", Subjects: []string{"tenant.*.device.*.*"}, MaxAge: day, MaxBytes: 10 * gib},
		{Name: "SHADOW", Subjects: []string{"tenant.*.device.*.shadow.reported"}, MaxAge: day, MaxBytes: gib},
		{Name: "COMMANDS", Subjects: []string{"tenant.*.device.*.commands.ack"}, MaxAge: day, MaxBytes: gib},
		{Name: "QUARANTINE", Subjects: []string{"quarantine.>"}, MaxAge: 7 * day, MaxBytes: gib, MaxMsgsPerSubject: 1000},
	}
}

func fleetConsumers() []streams.ConsumerSpec {
	return []streams.ConsumerSpec{
		{Stream: "TELEMETRY", Name: "ingest-workers"},
		{Stream: "SHADOW", Name: "ingest-shadow"},
		{Stream: "COMMANDS", Name: "ingest-commands"},
	}
}
