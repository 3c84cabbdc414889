package demo

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/screen"
)

// ErrUnaccounted means that the counts of the demo do not agree.
var ErrUnaccounted = errors.New("not every message is accounted for")

// conclude returns nil if every check passed.
func conclude(checks []check) error {
	var failed []string
	for _, c := range checks {
		if !c.OK {
			failed = append(failed, fmt.Sprintf("%s (%s)", c.Claim, c.Figures))
		}
	}
	if failed == nil {
		return nil
	}
	return fmt.Errorf("%w; failed checks: %s", ErrUnaccounted, strings.Join(failed, "; "))
}

// summary renders the account and its checks.
func summary(a *account, checks []check, took time.Duration) string {
	var b strings.Builder
	c := &a.Bridge
	row := func(label string, n uint64, note string) {
		b.WriteString(strings.TrimRight(fmt.Sprintf("  %-30s%12s   %s", label, screen.Grouped(n), note), " ") + "\n")
	}
	fmt.Fprintf(&b, "\nSummary after %s\n\n", took.Round(100*time.Millisecond))
	row("acknowledged to devices", a.Fleet.Acked, fmt.Sprintf("of %s sent", screen.Grouped(a.Fleet.Sent)))
	if a.Visits > 0 {
		row("sent by you as "+visitor, a.Visits, "")
	}
	row("received by the bridge", delivered(c), "")
	row("  stored", c.Stored, latency(&c.AckLatency))
	row("  quarantined", c.QuarantinedTotal(), "")
	row("  dropped", dropped(c), dropReasons(c))
	row("  in flight", uint64(c.InFlight), "")

	if w := a.Written; w != nil {
		row("in the database", w.Telemetry, fmt.Sprintf("rows of telemetry; %s states, %s commands", screen.Grouped(w.States), screen.Grouped(w.Commands)))
	}
	fmt.Fprintf(&b, "\n  %-20s%10s%13s      %-12s%12s\n", "reason", "rejected", "quarantined", "stream", "messages")
	reasons := shownReasons(c, a.Provoked)
	for i := range max(len(reasons), len(a.Streams)) {
		left, right := strings.Repeat(" ", 43), ""
		if i < len(reasons) {
			left = reasonRow(c, reasons[i])
		}
		if i < len(a.Streams) {
			right = fmt.Sprintf("      %-12s%12s", a.Streams[i].Stream, screen.Grouped(a.Streams[i].Messages))
		}
		b.WriteString(strings.TrimRight("  "+left+right, " ") + "\n")
	}
	b.WriteString("\n")
	for _, c := range checks {
		if c.OK {
			fmt.Fprintf(&b, "  ok      %s\n", c.Claim)
		} else {
			fmt.Fprintf(&b, "  FAILED  %s: %s\n", c.Claim, c.Figures)
		}
	}
	return b.String()
}

// dropReasons returns the numbers of dropped messages by reason. If there is only one reason, the
// number is omitted.
func dropReasons(c *bridge.Counts) string {
	var parts []string
	for _, p := range []struct {
		n    uint64
		what string
	}{
		{c.QuarantineSkipped, "above the quarantine limit"},
		{c.RetainedSkipped, "retained copies"},
		{c.QoS0Dropped, "QoS 0 dropped"},
	} {
		if p.n > 0 {
			parts = append(parts, screen.Grouped(p.n)+" "+p.what)
		}
	}
	if len(parts) == 1 {
		_, what, _ := strings.Cut(parts[0], " ") // without the number
		return what
	}
	return strings.Join(parts, ", ")
}

// shownReasons returns the reasons that have a row: those that the demo provokes, and any other that
// occurred.
func shownReasons(c *bridge.Counts, provoked []verdict.Reason) []verdict.Reason {
	var list []verdict.Reason
	for _, r := range verdict.Reasons() {
		if slices.Contains(provoked, r) || c.Rejected[r] > 0 {
			list = append(list, r)
		}
	}
	return list
}

// reasonRow returns a row of 43 columns.
func reasonRow(c *bridge.Counts, r verdict.Reason) string {
	return fmt.Sprintf("%-20s%10s%13s", r, screen.Grouped(c.Rejected[r]), screen.Grouped(c.Quarantined[r]))
}

func latency(h *bridge.Histogram) string {
	return fmt.Sprintf("p50 %s, p99 %s", millis(h.Quantile(0.5)), millis(h.Quantile(0.99)))
}

func millis(ns int64) string { return fmt.Sprintf("%.1f ms", float64(ns)/1e6) }
