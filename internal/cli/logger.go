package cli

import (
	"fmt"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/config"
)

// timestamps are UTC, RFC 3339 with milliseconds.
const timestamps = "2006-01-02T15:04:05.000Z07:00"

// NewLogger logs to w: for a reader on a terminal, as JSON elsewhere, unless the
// configuration says which.
func NewLogger(w *os.File, c config.Log) (zerolog.Logger, error) {
	if err := SetLevel(c); err != nil {
		return zerolog.Nop(), err
	}
	terminal := IsTerminal(w)
	log := zerolog.New(w)
	if c.Format == "console" || c.Format == "auto" && terminal {
		log = zerolog.New(zerolog.ConsoleWriter{
			Out: w, NoColor: !Colour(w),
			TimeFormat: timestamps, TimeLocation: time.UTC,
		})
	}
	// Not zerolog's own timestamp: its format is a variable of the package.
	stamp := zerolog.HookFunc(func(e *zerolog.Event, _ zerolog.Level, _ string) {
		e.Str(zerolog.TimestampFieldName, time.Now().UTC().Format(timestamps))
	})
	return log.Hook(stamp), nil
}

// SetLevel sets the least severe level shown. It is zerolog's own for the whole
// process: a reload may change it, and loggers are copied as they are handed on.
func SetLevel(c config.Log) error {
	level, err := zerolog.ParseLevel(c.Level)
	if err != nil {
		return fmt.Errorf("set up the log: %w", err)
	}
	zerolog.SetGlobalLevel(level)
	return nil
}

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool { return isatty.IsTerminal(f.Fd()) }

// Colour reports whether f shows colours: it is a terminal, and NO_COLOR is not set.
func Colour(f *os.File) bool {
	return IsTerminal(f) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
