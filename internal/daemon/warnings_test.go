package daemon

import (
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
)

func TestFiltersOfAttestedLanes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env             []string
		filters, former []string
	}{
		"share group": {
			filters: []string{"$share/bridge-p3/bridge/v1/3/#"},
			former:  []string{"bridge/v1/3/#", "bridge/v1/3/+/+/+/a/+/+"},
		},
		"off": {
			env:     []string{"BRIDGE_MQTT_SHARE=off"},
			filters: []string{"bridge/v1/3/#"},
			former:  []string{"$share/bridge-p3/bridge/v1/3/#", "bridge/v1/3/+/+/+/a/+/+"},
		},
		"plain topics, off": {
			env:     []string{"BRIDGE_MQTT_SHARE=off", "BRIDGE_IDENTITY_MODE=off"},
			filters: []string{"a/+/+"},
		},
		"plain topics, share group": {
			env:     []string{"BRIDGE_MQTT_SHARE=g", "BRIDGE_IDENTITY_MODE=off"},
			filters: []string{"$share/g/a/+/+"}, former: []string{"a/+/+"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := append(c.env, "BRIDGE_TOPICS=a/{tenant}/{device}")
			if len(c.former) > 1 {
				env = append(env, "BRIDGE_LANES_PARTITIONS=3")
			}
			loaded, err := config.Load(config.Sources{Env: env})
			require.NoError(t, err)
			plan, err := Compile(loaded)
			require.NoError(t, err)
			require.Len(t, plan.Lanes, 1)
			require.Equal(t, c.filters, plan.Lanes[0].Filters)
			require.Equal(t, c.former, plan.Lanes[0].Former)
		})
	}
}

func TestWarningsAreLoggedWhenTheyBegin(t *testing.T) {
	t.Parallel()
	log := &countingWriter{}
	w := warningLog{log: zerolog.New(log)}
	one := []Problem{{Component: "mqtt", Problem: "every lane is subscribed and no message has ever arrived"}}
	for range 3 {
		w.note(one)
	}
	require.Equal(t, 1, log.lines)
	w.note(nil)
	w.note(one)
	require.Equal(t, 2, log.lines, "again once it was over")
	w.note([]Problem{{Problem: sessionLost}})
	require.Equal(t, 2, log.lines, "the session logs that itself")
}

type countingWriter struct{ lines int }

func (w *countingWriter) Write(p []byte) (int, error) { w.lines++; return len(p), nil }

func TestSilenceAdviceNamesTheCure(t *testing.T) {
	t.Parallel()
	for want, env := range map[string][]string{
		"identity.mode: off, one without $share needs mqtt.share: off": nil,
		"a broker without rules, like mosquitto":                       {"BRIDGE_MQTT_SHARE=off"},
		"mosquitto withholds messages":                                 {"BRIDGE_IDENTITY_MODE=off"},
		"remove mqtt.share":                                            {"BRIDGE_IDENTITY_MODE=off", "BRIDGE_MQTT_SHARE=g"},
	} {
		c, err := config.Load(config.Sources{Env: env})
		require.NoError(t, err)
		require.Contains(t, silenceAdvice(c), want)
	}
}
