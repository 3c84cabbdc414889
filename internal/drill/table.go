package drill

import (
	"fmt"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/reconcile"
	"mqtt-nats-bridge/internal/screen"
)

// sample is the state of a drill at one moment.
type sample struct {
	At, For            time.Duration
	Phase              string // empty: publishing
	Connected, Devices int
	Disconnects        uint64
	Verdict            reconcile.Verdict
	Rate               float64       // messages stored per second, over the last few seconds
	Quiet              time.Duration // time since the latest message was read
	Trouble            string        // the current problem, printable
}

func (v *view) sample() *sample {
	d := v.d
	s := &sample{For: d.o.For, Phase: v.phase, Devices: len(d.fleet.Devices), Disconnects: d.disconnects.Load(), Verdict: d.ledger.Verdict()}
	now := d.o.now()
	s.At = now.Sub(d.started)
	for _, device := range d.fleet.Devices {
		if device.Connected() {
			s.Connected++
		}
	}
	s.Rate = v.rate.Update(s.At, float64(s.Verdict.Stored))
	d.in.mu.Lock()
	if s.Quiet = s.At; !d.in.lastAt.IsZero() {
		s.Quiet = now.Sub(d.in.lastAt)
	}
	d.in.mu.Unlock()
	s.Trouble = screen.Printable(d.trouble(now))
	return s
}

// trouble returns the current problem in one line.
func (d *drill) trouble(now time.Time) string {
	for _, r := range d.readers {
		if err := r.problem(); err != nil {
			return err.Error()
		}
	}
	d.disconnectMu.Lock()
	defer d.disconnectMu.Unlock()
	if d.disconnectCause == nil {
		return ""
	}
	return fmt.Sprintf("connection lost %d s ago: %v", int(now.Sub(d.lastDisconnect).Seconds()), d.disconnectCause)
}

const tableHeight = 8

// table renders the live table for a terminal of the given width.
func table(s *sample, columns int) []string {
	v := &s.Verdict
	lines := []string{
		fmt.Sprintf(" %-36s%42s", clock(s), fmt.Sprintf("%d of %d devices connected", s.Connected, s.Devices)),
		row("published", v.Sent, "acknowledged", screen.Grouped(uint64(v.Acked))),
		row("stored", v.Stored, "per second", fmt.Sprintf("%.0f", s.Rate)),
		row("missing", v.Lost, "last stored", fmt.Sprintf("%.1f s ago", s.Quiet.Seconds())),
		row("duplicated", v.Duplicated, "resent by devices", screen.Grouped(uint64(v.Resent))),
		row("inversions", v.Inversions, "longest gap", fmt.Sprintf("%.1f s", v.Gap.Seconds())),
		row("wrong device", v.Foreign, "quarantined", screen.Grouped(uint64(v.Quarantined))),
		" " + s.Trouble,
	}
	for i, l := range lines {
		lines[i] = strings.TrimRight(screen.Clip(l, min(columns, 80)-1), " ")
	}
	return lines
}

func row(left string, n int, right, value string) string {
	return fmt.Sprintf(" %-16s%14s      %-20s%14s", left, screen.Grouped(uint64(n)), right, value)
}

func clock(s *sample) string {
	if s.Phase != "" {
		return fmt.Sprintf("%d s, %s", int(s.At.Seconds()), s.Phase)
	}
	if s.For > 0 {
		return fmt.Sprintf("%d of %d s, Ctrl-C ends", int(s.At.Seconds()), int(s.For.Seconds()))
	}
	return fmt.Sprintf("%d s, Ctrl-C ends", int(s.At.Seconds()))
}

// line renders a sample as one line, for output that is not a terminal.
func line(s *sample) string {
	v := &s.Verdict
	text := fmt.Sprintf("%4ds published %d acknowledged %d stored %d missing %d duplicated %d inversions %d wrong device %d quarantined %d, %.0f per second, %d of %d connected",
		int(s.At.Round(time.Second).Seconds()), v.Sent, v.Acked, v.Stored, v.Lost, v.Duplicated, v.Inversions, v.Foreign, v.Quarantined, s.Rate, s.Connected, s.Devices)
	if s.Phase != "" {
		text += ", " + s.Phase
	}
	if s.Trouble != "" {
		text += ", " + s.Trouble
	}
	return text
}
