package page

import (
	"fmt"
	"math"
	"time"

	"mqtt-nats-bridge/internal/screen"
)

// Count formats a number with a comma after every three digits.
func Count(n uint64) string { return screen.Grouped(n) }

// Rate formats a rate per second, with one decimal below ten.
func Rate(perSecond float64) string {
	switch {
	case math.IsNaN(perSecond):
		return "–"
	case perSecond == 0:
		return "0"
	case perSecond < 0.1:
		return "<0.1"
	case perSecond < 9.95:
		return fmt.Sprintf("%.1f", perSecond)
	}
	return Count(uint64(math.Round(perSecond)))
}

// Bytes formats a size with a binary unit.
func Bytes(n uint64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), ""
	for _, unit = range []string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		if value /= 1 << 10; value < 999.5 {
			break
		}
	}
	if value < 9.95 {
		return fmt.Sprintf("%.1f %s", value, unit)
	}
	return fmt.Sprintf("%.0f %s", value, unit)
}

// Ago formats the time from t to now in one unit; "–" if t is zero.
func Ago(t, now time.Time) string {
	if t.IsZero() {
		return "–"
	}
	d := max(now.Sub(t), 0)
	if d < time.Second {
		return "now"
	}
	return Span(d) + " ago"
}

// Span formats a duration in one unit.
func Span(d time.Duration) string {
	switch {
	case d < 100*time.Second:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 100*time.Minute:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d d", int(d.Hours()/24))
}
