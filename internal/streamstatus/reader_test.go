package streamstatus

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestStreamJSON(t *testing.T) {
	t.Parallel()
	written := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	body, err := json.Marshal([]Stream{
		{Name: "A", State: &State{Messages: 1, Bytes: 2, FirstSequence: 3, LastSequence: 4, FirstTime: written, LastTime: written}},
		{Name: "B", State: &State{}},
		{Name: "C", Problem: "away"},
	})
	require.NoError(t, err)
	require.JSONEq(t, `[
		{"name":"A","messages":1,"bytes":2,"first_sequence":3,"last_sequence":4,"first_time":"2026-01-02T03:04:05Z","last_time":"2026-01-02T03:04:05Z"},
		{"name":"B","messages":0,"bytes":0,"first_sequence":0,"last_sequence":0},
		{"name":"C","problem":"away"}]`, string(body))
}
