package config

// Complete sets the stream of a topic that names none. A default topic that is written out therefore
// behaves like the default.
func (t *Topic) Complete() {
	if t.Stream != "" {
		return
	}
	switch t.Topic {
	case "tenant/{tenant}/device/{device}/shadow/reported":
		t.Stream = Shadow
	case "tenant/{tenant}/device/{device}/commands/ack":
		t.Stream = Commands
	default:
		t.Stream = Telemetry
	}
}
