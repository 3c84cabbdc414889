package advice

import "github.com/rs/zerolog"

// Field returns a function for [zerolog.Event.Func] that adds advice to a log line. Empty advice adds
// nothing.
func Field(text string) func(*zerolog.Event) {
	return func(line *zerolog.Event) {
		if text != "" {
			line.Str("advice", text)
		}
	}
}
