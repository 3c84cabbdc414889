package config

// Complete fills in the stream of a topic that names none, so that the default
// topics written out behave as the defaults do.
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
