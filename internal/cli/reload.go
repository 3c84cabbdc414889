package cli

import (
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/config"
)

// Hangups delivers SIGHUP until stop is called. Call it early: without it, SIGHUP terminates the
// process.
func Hangups() (received <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1) // a signal during a reload causes another reload
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}

// Reload applies the configuration that load returns. apply returns the paths that changed and
// those that need a restart. An invalid configuration changes nothing.
func Reload[T any](log zerolog.Logger, load func() (T, error), apply func(T) (changed, restart []string, err error)) {
	var changed, restart []string
	c, err := load()
	if err == nil {
		changed, restart, err = apply(c)
	}
	if err != nil {
		notReloaded(log, err)
		return
	}
	if len(restart) > 0 {
		log.Warn().Str("component", "configuration").Strs("keys", restart).Msg("changed keys need a restart")
	}
	log.Info().Strs("changed", changed).Msg("configuration reloaded")
}

// notReloaded logs each error on a line of its own, because each refers to a line of the file.
func notReloaded(log zerolog.Logger, err error) {
	var errs *config.Errors
	if !errors.As(err, &errs) {
		log.Error().Str("component", "configuration").Err(err).Msg("configuration reload failed, keeping the current one")
		return
	}
	for _, e := range errs.List {
		log.Error().Str("component", "configuration").Str("error", e.Error()).Msg("error in the configuration")
	}
	log.Error().Str("component", "configuration").Int("errors", len(errs.List)).Msg("configuration reload failed, keeping the current one")
}
