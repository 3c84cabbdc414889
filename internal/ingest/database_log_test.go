package ingest

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

func TestDatabaseLog(t *testing.T) {
	t.Parallel()
	t.Run("problems are readable while log blocks", testProblemsAreReadableWhileLogBlocks)
	t.Run("line without advice has no advice field", testLineWithoutAdviceHasNoAdviceField)
}

// A log output that blocks must not keep /readyz waiting.
func testProblemsAreReadableWhileLogBlocks(t *testing.T) {
	t.Parallel()
	out, in := io.Pipe() // a write blocks until it is read
	d := &database{log: zerolog.New(in), wrong: map[string]wrong{}, refused: map[string]refusal{}, stored: map[string]bool{"a": true}}
	begun := func(change func()) {
		t.Helper()
		done := make(chan struct{})
		go func() {
			defer close(done)
			change()
		}()
		_, err := out.Read(make([]byte, 1)) // the rest of the line blocks
		require.NoError(t, err)
		d.problems()
		d.warnings()
		line := make([]byte, 10000)
		_, err = out.Read(line)
		require.NoError(t, err)
		<-done
	}
	begun(func() { d.fails("a", errors.New("no")) })
	begun(func() { d.works("a") })
	begun(func() { d.refuses("a", 1, errors.New("no")) })
	require.Empty(t, d.problems())
	require.Len(t, d.warnings(), 1)
}

func testLineWithoutAdviceHasNoAdviceField(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	d := &database{log: zerolog.New(&log), wrong: map[string]wrong{}, refused: map[string]refusal{}, stored: map[string]bool{}}
	d.fails("a", errors.New("no"))
	d.refuses("a", 1, errors.New("no"))
	require.Equal(t, 2, bytes.Count(log.Bytes(), []byte("\n")))
	require.NotContains(t, log.String(), "advice")
}
