package daemon

import (
	"bytes"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
)

func TestWarningLog(t *testing.T) {
	t.Parallel()
	t.Run("warning is logged once when it begins", testWarningIsLoggedOnceWhenItBegins)
	t.Run("empty advice has no field", testEmptyAdviceHasNoField)
}

func testWarningIsLoggedOnceWhenItBegins(t *testing.T) {
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

func testEmptyAdviceHasNoField(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	w := warningLog{log: zerolog.New(&log)}
	w.note([]Problem{{Component: "mqtt", Problem: "one"}, {Component: "mqtt", Problem: "two", Advice: "wait"}})
	require.Equal(t, `{"level":"warn","component":"mqtt","message":"one"}
{"level":"warn","component":"mqtt","advice":"wait","message":"two"}
`, log.String())
}

type countingWriter struct{ lines int }

func (w *countingWriter) Write(p []byte) (int, error) { w.lines++; return len(p), nil }

func TestSilenceAdvice(t *testing.T) {
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
