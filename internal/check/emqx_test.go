package check

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
	api "mqtt-nats-bridge/internal/emqx"
	"mqtt-nats-bridge/internal/emqxtest"
)

func TestEMQXAPI(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]struct {
		state func(*emqxtest.State)
		fails int
		want  string
	}{
		"a device with an id of its choice": {func(s *emqxtest.State) {
			s.Sessions["d"] = api.Session{ClientID: "d", Username: "acme/dev-1", Listener: "ssl:default"}
		}, 1, "set clientid_override in the zone of that listener"},
		"ids with the CN": {func(s *emqxtest.State) {
			s.Sessions["acme/dev-1/d"] = api.Session{ClientID: "acme/dev-1/d", Username: "acme/dev-1", Listener: "ssl:default"}
		}, 0, "the client ids of 1 connected devices contain their user names"},
		"ids that are the CN": {func(s *emqxtest.State) {
			s.Sessions["acme/dev-1"] = api.Session{ClientID: "acme/dev-1", Username: "acme/dev-1", Listener: "ssl:default"}
		}, 0, "note  emqx client ids: the client ids of 1 connected devices equal their user names"},
		"no device":    {func(*emqxtest.State) {}, 0, "no device is connected"},
		"no rule":      {func(s *emqxtest.State) { s.Rules = nil }, 1, "no enabled rule republishes to bridge/v1/"},
		"round robin":  {func(s *emqxtest.State) { s.Strategy = "round_robin" }, 0, "set hash_clientid in emqx.conf"},
		"ignored deny": {func(s *emqxtest.State) { s.Authz.DenyAction = "ignore" }, 0, "deny_action ignore"},
		"API refuses":  {func(s *emqxtest.State) { s.Secret = "other" }, 0, "the API key is refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker := emqxtest.Start(t)
			broker.Change(step.state)
			env, _ := broker.Env(t)
			c, err := config.Load(config.Sources{Env: env})
			require.NoError(t, err)
			var out strings.Builder
			r := NewReport(&out)
			EMQX(t.Context(), c, r)
			require.Contains(t, out.String(), step.want)
			require.Equal(t, step.fails, r.Failed())
		})
	}
}
