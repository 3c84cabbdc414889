package demo

import (
	"fmt"
	"strings"
	"time"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/screen"
)

// sample is the state of the demo at one moment.
type sample struct {
	At       time.Duration // since the first publish
	For      time.Duration // 0: until interrupted
	Fleet    tally
	Bridge   bridge.Counts
	Streams  []streamCount
	Rate     float64 // messages received per second, over the last few seconds
	Provoked []verdict.Reason
	// Last describes the latest quarantined message in one printable line.
	Last string
	// Written is nil without a database.
	Written *written
}

// tableHeight returns the number of lines of the table if no other reason occurs.
func tableHeight(provoked []verdict.Reason, database bool) int {
	height := 7 + len(provoked)
	if database {
		height++
	}
	return height
}

// wide is the minimum width at which the table shows the streams next to the bridge's counts.
const wide = 80

// table renders the live table for a terminal of the given width. The last column stays empty.
func table(s *sample, columns int) []string {
	c := &s.Bridge
	left := []string{
		fmt.Sprintf("%-12s%10s   in flight %11s", "received", screen.Grouped(delivered(c)), screen.Grouped(uint64(c.InFlight))),
		fmt.Sprintf("%-12s%10s   msg/s %15.0f", "stored", screen.Grouped(c.Stored), s.Rate),
		fmt.Sprintf("%-12s%10s   latency p50 %9s", "quarantined", screen.Grouped(c.QuarantinedTotal()), millis(c.AckLatency.Quantile(0.5))),
		fmt.Sprintf("%-12s%10s   latency p99 %9s", "dropped", screen.Grouped(dropped(c)), millis(c.AckLatency.Quantile(0.99))),
	}
	head := " " + clock(s)
	if columns >= wide {
		head = fmt.Sprintf("%-37s%42s", head, fmt.Sprintf("%d of %d devices connected", s.Fleet.Connected, s.Fleet.Devices))
	}
	lines := []string{head}
	for i, l := range left {
		if columns >= wide && i < len(s.Streams) {
			l = fmt.Sprintf("%-46s     %-14s%13s", l, s.Streams[i].Stream, screen.Grouped(s.Streams[i].Messages))
		}
		lines = append(lines, " "+l)
	}
	lines = append(lines, fmt.Sprintf(" %-20s%10s%13s", "refused as", "rejected", "quarantined"))
	for _, r := range shownReasons(c, s.Provoked) {
		lines = append(lines, " "+reasonRow(c, r))
	}
	if w := s.Written; w != nil {
		lines = append(lines, fmt.Sprintf(" database: %s rows, %s states, %s commands; lag %s messages",
			screen.Grouped(w.Telemetry), screen.Grouped(w.States), screen.Grouped(w.Commands), screen.Grouped(w.Lag)))
	}
	last := s.Last
	if last == "" {
		last = "nothing quarantined yet"
	}
	lines = append(lines, " last: "+last)
	for i, l := range lines {
		lines[i] = strings.TrimRight(screen.Clip(l, min(columns, wide)-1), " ")
	}
	return lines
}

func clock(s *sample) string {
	at := fmt.Sprintf("%d s", int(s.At.Seconds()))
	if s.For > 0 {
		at = fmt.Sprintf("%d of %d s", int(s.At.Seconds()), int(s.For.Seconds()))
	}
	return at + ", Ctrl-C ends"
}

// line renders a sample as one line, for output that is not a terminal.
func line(s *sample) string {
	c := &s.Bridge
	var b strings.Builder
	fmt.Fprintf(&b, "%3ds received %d stored %d quarantined %d", int(s.At.Round(time.Second).Seconds()), delivered(c), c.Stored, c.QuarantinedTotal())
	var by []string
	for _, r := range verdict.Reasons() {
		if n := c.Quarantined[r]; n > 0 {
			by = append(by, fmt.Sprintf("%s %d", r, n))
		}
	}
	if by != nil {
		fmt.Fprintf(&b, " (%s)", strings.Join(by, ", "))
	}
	fmt.Fprintf(&b, " dropped %d, %.0f msg/s, %s, in flight %d", dropped(c), s.Rate, latency(&c.AckLatency), c.InFlight)
	if w := s.Written; w != nil {
		fmt.Fprintf(&b, ", rows %d, lag %d", w.Telemetry, w.Lag)
	}
	return b.String()
}
