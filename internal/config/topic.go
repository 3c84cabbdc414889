package config

// defaultTopics are the topics of the platform the bridge was made for.
func defaultTopics() []Topic {
	return []Topic{
		{Topic: "tenant/{tenant}/device/{device}/{type}", Format: Raw, Stream: Telemetry},
		{Topic: "tenant/{tenant}/device/{device}/shadow/reported", Format: Raw, Stream: Shadow},
		{Topic: "tenant/{tenant}/device/{device}/commands/ack", Format: Raw, Stream: Commands},
	}
}

// complete fills in the stream of a topic that names none, so that the default
// topics written out behave as the defaults do.
func (t *Topic) complete() {
	if t.Stream != "" {
		return
	}
	t.Stream = Telemetry
	for _, d := range defaultTopics() {
		if d.Topic == t.Topic {
			t.Stream = d.Stream
		}
	}
}
