package cli

import (
	"errors"
	"strings"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/config"
)

// Failed logs the error that ends a daemon, one log line per line of the error. It returns an error
// that [Exit] does not print again. Configuration errors are not logged: [Exit] prints them.
func Failed(log zerolog.Logger, err error) error {
	var errs *config.Errors
	if err == nil || errors.As(err, &errs) || errors.Is(err, ErrReported) {
		return err
	}
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			log.Error().Str("component", "process").Str("error", line).Msg("process failed")
		}
	}
	return ErrReported
}
