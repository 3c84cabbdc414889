package demo

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/golden"
	"mqtt-nats-bridge/internal/screen"
)

// fixed is a sample with constant values. Its 12 lines are the usual maximum height of the
// table.
func fixed() *sample {
	s := &sample{
		At: 12*time.Second + 400*time.Millisecond, For: 30 * time.Second, Rate: 204.4,
		Fleet:   tally{Connected: 34, Devices: 35},
		Streams: []streamCount{{"TELEMETRY", 1_234_567}, {"SHADOW", 12_345}, {"COMMANDS", 88}, {"QUARANTINE", 210}},
		Provoked: []verdict.Reason{
			verdict.BadTopic, verdict.PayloadTooLarge, verdict.CNMissing, verdict.CNMismatch, verdict.RateLimited,
		},
		Last: `cn_mismatch, the certificate is that of "globex/impostor", the topic belongs to "acme/pump-1"`,
	}
	c := &s.Bridge
	c.Received, c.Stored, c.QuarantineSkipped, c.RetainedSkipped, c.InFlight = 1_248_000, 1_247_000, 788, 2, 3
	c.Rejected[verdict.CNMismatch], c.Quarantined[verdict.CNMismatch] = 12, 12
	c.Rejected[verdict.RateLimited], c.Quarantined[verdict.RateLimited] = 986, 198
	c.AckLatency.Buckets[1], c.AckLatency.Buckets[5] = 90, 10
	c.AckLatency.Count = 100
	return s
}

func TestTable(t *testing.T) {
	t.Parallel()
	t.Run("output matches golden files", testOutputMatchesGoldenFiles)
	t.Run("lines fit terminal width", testLinesFitTerminalWidth)
	t.Run("unexpected reason has its own row", testUnexpectedReasonHasItsOwnRow)
}

func testOutputMatchesGoldenFiles(t *testing.T) {
	t.Parallel()
	golden.Require(t, "testdata/table.golden", strings.Join(table(fixed(), 80), "\n")+"\n")
	golden.Require(t, "testdata/table-narrow.golden", strings.Join(table(fixed(), 50), "\n")+"\n")
}

func TestLineOfFixedNumbers(t *testing.T) {
	t.Parallel()
	golden.Require(t, "testdata/line.golden", line(fixed())+"\n"+line(&sample{})+"\n")
}

func TestSummaryOfFixedNumbers(t *testing.T) {
	t.Parallel()
	a := balanced()
	a.Bridge.AckLatency = fixed().Bridge.AckLatency
	golden.Require(t, "testdata/summary.golden", summary(a, a.checks(), 10*time.Second))
}

func testLinesFitTerminalWidth(t *testing.T) {
	t.Parallel()
	s := fixed()
	s.Last = strings.Repeat("x", 300)
	require.Len(t, table(s, 80), tableHeight(s.Provoked, false))
	for _, columns := range []int{screen.LeastColumns, 79, 80, 200} {
		for _, l := range table(s, columns) {
			require.Less(t, utf8.RuneCountInString(l), min(columns, 80), l)
		}
	}
}

func testUnexpectedReasonHasItsOwnRow(t *testing.T) {
	t.Parallel()
	s := fixed()
	s.Bridge.Rejected[verdict.Refused] = 1
	require.Len(t, table(s, 80), tableHeight(s.Provoked, false)+1)
	require.Contains(t, strings.Join(table(s, 80), "\n"), "\n refused  ")
}
