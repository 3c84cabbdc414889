package advice

import (
	"errors"

	"mqtt-nats-bridge/internal/emqx"
)

// emqxAPI returns advice about EMQX's HTTP API.
func emqxAPI(err error) string {
	switch {
	case errors.Is(err, emqx.ErrUnauthorized):
		return "check mqtt.emqx.key and mqtt.emqx.secret_file against EMQX's API keys"
	case errors.Is(err, emqx.ErrForbidden):
		return "give the API key a role with read permission: viewer or administrator"
	case errors.Is(err, emqx.ErrUnreachable):
		return "check mqtt.emqx.api, and that EMQX's dashboard listener is running there"
	case errors.Is(err, emqx.ErrNotFound), errors.Is(err, emqx.ErrUnexpected):
		return "check that EMQX 5.8 or later answers at mqtt.emqx.api"
	}
	return ""
}
