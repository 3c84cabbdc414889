package cli

import (
	"errors"
	"strings"

	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/config"
)

// Failed logs why a daemon ends, a line of the log for each line of the error, and returns
// an error that [Exit] does not print again. Errors of the configuration are left to it.
func Failed(log zerolog.Logger, err error) error {
	var errs *config.Errors
	if err == nil || errors.As(err, &errs) || errors.Is(err, ErrReported) {
		return err
	}
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			log.Error().Str("component", "process").Str("error", line).Msg("failed")
		}
	}
	return ErrReported
}
