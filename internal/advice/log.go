package advice

import "github.com/rs/zerolog"

// Field adds an advice to a line of the log, by its Func; an empty one adds nothing.
func Field(text string) func(*zerolog.Event) {
	return func(line *zerolog.Event) {
		if text != "" {
			line.Str("advice", text)
		}
	}
}
