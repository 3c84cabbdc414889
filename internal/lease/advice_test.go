package lease

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// TestAdviceInTheLog checks that warnings and errors carry the advice, if there is any.
func TestAdviceInTheLog(t *testing.T) {
	t.Parallel()
	advice := Advice{Bucket: func(err error) string { return "see the bucket: " + err.Error() },
		OtherBroker: func(error) string { return "see the brokers" }, Broker: func(err error) string { return "see " + err.Error() },
	}
	for name, c := range map[string]struct {
		log    func(*Coordinator)
		advice string
	}{
		"bucket":       {func(c *Coordinator) { c.failed(errors.New("gone")) }, "see the bucket: gone"},
		"broker":       {func(c *Coordinator) { c.reached(errors.New("gone")) }, "see gone"},
		"other broker": {func(c *Coordinator) { c.logElsewhere([]Replica{{ID: "a"}}) }, "see the brokers"},
	} {
		for _, given := range []Advice{advice, {}} {
			var log bytes.Buffer
			o := Options{Advice: given, Log: zerolog.New(&log)}
			c.log(&Coordinator{opts: o, view: newView(0, time.Now(), map[string]seenReplica{})})
			var line map[string]any
			require.NoError(t, json.Unmarshal(log.Bytes(), &line), name)
			require.Equal(t, "leases", line["component"], name)
			if given.Bucket == nil {
				require.NotContains(t, line, "advice", name)
			} else {
				require.Equal(t, c.advice, line["advice"], name)
			}
		}
	}
}
