package account

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/health"
	"mqtt-nats-bridge/jetstream/conn"
)

// NewConnection returns the condition of a program's connection to NATS; see [Hooks].
func NewConnection(log zerolog.Logger) *health.Condition {
	return health.New(health.Options{
		Component: "nats", Log: log, Failed: "nats not connected", Initial: errors.New("not connected yet"),
		Fields: func(line *zerolog.Event, err error) {
			var p conn.Problem
			if errors.As(err, &p) {
				line.Str("kind", string(p.Kind)).Str("cause", string(p.Cause))
			}
		},
	})
}

// Hooks returns hooks that update the condition of a connection and log its events. They call changed
// whenever the connection opens or closes.
func Hooks(connection *health.Condition, log zerolog.Logger, changed func(connected bool)) conn.Hooks {
	return conn.Hooks{
		Connected: func(nc *nats.Conn) {
			changed(true)
			connection.Clear()
			log.Info().Str("server", nc.ConnectedUrlRedacted()).Str("server_name", nc.ConnectedServerName()).Msg("nats connected")
		},
		Disconnected: func(_ *nats.Conn, err error) {
			if err == nil {
				return // closed by this program
			}
			changed(false)
			connection.SetAs(zerolog.WarnLevel, "nats connection lost", fmt.Errorf("connection lost: %w", err))
		},
		Reconnected: func(nc *nats.Conn) {
			changed(true)
			connection.Clear()
			log.Info().Str("server", nc.ConnectedUrlRedacted()).Msg("nats connected again")
		},
		ConnectFailed: func(p conn.Problem) {
			changed(false)
			connection.Set(p)
		},
		Error: func(_ *nats.Conn, err error) {
			log.Error().Str("component", "nats").AnErr("problem", err).Func(advice.Field(advice.For(err))).Msg("nats reports an error")
		},
	}
}
