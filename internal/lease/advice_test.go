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
	gone := errors.New("gone")
	for name, c := range map[string]struct {
		log  func(*Coordinator)
		want error
	}{
		"bucket":       {func(c *Coordinator) { c.failed(gone) }, &BucketError{gone}},
		"broker":       {func(c *Coordinator) { c.reached(gone) }, gone},
		"other broker": {func(c *Coordinator) { c.logElsewhere([]Replica{{ID: "a"}}) }, &OtherBrokerError{Replica{ID: "a"}, "b"}},
	} {
		for _, advice := range []func(error) string{func(err error) string { require.Equal(t, c.want, err); return "see it" }, nil} {
			var log bytes.Buffer
			o := Options{Replica: Replica{Broker: "b"}, Advice: advice, Log: zerolog.New(&log)}
			c.log(&Coordinator{opts: o, view: newView(0, time.Now(), map[string]seenReplica{})})
			var line map[string]any
			require.NoError(t, json.Unmarshal(log.Bytes(), &line), name)
			require.Equal(t, "leases", line["component"], name)
			if advice == nil {
				require.NotContains(t, line, "advice", name)
			} else {
				require.Equal(t, "see it", line["advice"], name)
			}
		}
	}
}
