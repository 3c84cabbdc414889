package cli

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/config"
)

// timestamps is RFC 3339 with milliseconds; the times are UTC.
const timestamps = "2006-01-02T15:04:05.000Z07:00"

// Level is the minimum level of a log. Loggers are passed by value, and all copies share one Level,
// so that a reload changes it for all. It is implemented as a sampler because zerolog calls the
// sampler before it creates an event: a line below the level costs only a comparison.
type Level struct{ least atomic.Int32 }

// Sample implements [zerolog.Sampler].
func (l *Level) Sample(level zerolog.Level) bool { return level >= zerolog.Level(l.least.Load()) }

// Set sets the configured level.
func (l *Level) Set(c config.Log) error {
	level, err := zerolog.ParseLevel(c.Level)
	if err != nil {
		return fmt.Errorf("set up the log: %w", err)
	}
	l.least.Store(int32(level))
	return nil
}

// NewLogger returns a logger that writes to w, and its level. Unless the format is configured, it
// is console format on a terminal and JSON otherwise.
func NewLogger(w *os.File, c config.Log) (zerolog.Logger, *Level, error) {
	level := &Level{}
	if err := level.Set(c); err != nil {
		return zerolog.Nop(), nil, err
	}
	terminal := IsTerminal(w)
	log := zerolog.New(w)
	if c.Format == "console" || c.Format == "auto" && terminal {
		log = zerolog.New(zerolog.ConsoleWriter{
			Out: w, NoColor: !Colour(w),
			TimeFormat: timestamps, TimeLocation: time.UTC,
		})
	}
	// zerolog's own timestamp is not used: its format is a global variable.
	stamp := zerolog.HookFunc(func(e *zerolog.Event, _ zerolog.Level, _ string) {
		e.Str(zerolog.TimestampFieldName, time.Now().UTC().Format(timestamps))
	})
	return log.Sample(level).Hook(stamp), level, nil
}

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool { return isatty.IsTerminal(f.Fd()) }

// Colour reports whether to write colours to f: it is a terminal, and NO_COLOR is not set.
func Colour(f *os.File) bool {
	return IsTerminal(f) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
