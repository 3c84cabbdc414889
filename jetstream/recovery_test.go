package jetstream

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

func TestALastingFaultIsLoggedWithAdviceWhereThereIsSome(t *testing.T) {
	t.Parallel()
	for _, problem := range []error{ErrAckTimeout, &APIError{ErrCode: 10077}} {
		var log bytes.Buffer
		p := &Publisher{opts: PublisherOptions{Log: zerolog.New(&log)}}
		p.recovery = recovery{active: true, since: time.Now().Add(-alarmAfter), problem: problem}
		p.alarm()
		p.alarm()
		var line map[string]any
		require.NoError(t, json.Unmarshal(log.Bytes(), &line), "one line: %s", &log)
		require.Equal(t, problem.Error(), line["problem"])
		if advice := Advice(problem); advice != "" {
			require.Equal(t, advice, line["advice"])
		} else {
			require.NotContains(t, line, "advice")
		}
	}
}
