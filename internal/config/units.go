package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size in bytes, written 256KiB, 1MiB, 10GiB, 2TiB or plain.
type Bytes int64

// sizes are the units from large to small, which is the order String tries.
func sizes() []struct {
	suffix string
	factor int64
} {
	return []struct {
		suffix string
		factor int64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}
}

func (b *Bytes) parse(text string) error {
	digits, factor := text, int64(1)
	for _, s := range sizes() {
		if rest, ok := strings.CutSuffix(text, s.suffix); ok {
			digits, factor = strings.TrimRight(rest, " "), s.factor
			break
		}
	}
	// ParseUint takes no sign, underscore or fraction.
	n, err := strconv.ParseUint(digits, 10, 63)
	if errors.Is(err, strconv.ErrRange) || err == nil && n > math.MaxInt64/uint64(factor) {
		return fmt.Errorf("%s is too large for a size", quote(text))
	}
	if err != nil {
		return fmt.Errorf("%s is not a size; write it like 65536, 256KiB, 1MiB or 10GiB", quote(text))
	}
	*b = Bytes(int64(n) * factor)
	return nil
}

// String is the shortest exact form that parse reads back.
func (b Bytes) String() string {
	for _, s := range sizes() {
		if int64(b) != 0 && s.factor > 1 && int64(b)%s.factor == 0 {
			return strconv.FormatInt(int64(b)/s.factor, 10) + s.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// Rate is in messages per second; 0 is no limit.
type Rate float64

// leastRate is one an hour: below it the limiter's interval stops making sense,
// and with burst's bound it keeps burst / rate within an int64 of ns.
const leastRate = 1.0 / 3600

func (r *Rate) parse(text string) error {
	digits, per := text, 1.0
	if n, unit, ok := strings.Cut(text, "/"); ok {
		digits = n
		switch unit {
		case "s":
		case "m":
			per = 60
		case "h":
			per = 3600
		default:
			digits = ""
		}
	}
	f, err := strconv.ParseFloat(digits, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) || strings.ContainsAny(digits, "xXpP_") {
		return fmt.Errorf("%s is not a rate; write messages per second like 10 or 0.5, or 30/m or 100/h", quote(text))
	}
	f /= per
	if f < 0 {
		return fmt.Errorf("%s is negative; write 0 for no limit", quote(text))
	}
	if f != 0 && f < leastRate*(1-1e-9) {
		return fmt.Errorf("%s is below the least rate, 1/h; write 0 for no limit", quote(text))
	}
	*r = Rate(f)
	return nil
}

// String is in messages per second, in a form that parse reads back.
func (r Rate) String() string { return strconv.FormatFloat(float64(r), 'g', -1, 64) }

// Effective is the burst to use: what was written, or twice the rate and at
// least 1 where it is 0.
func (l RateLimit) Effective() int {
	if l.Burst > 0 {
		return l.Burst
	}
	return max(1, int(math.Ceil(2*float64(l.Rate))))
}

// refill is how long an empty bucket takes to fill.
func (l RateLimit) refill() time.Duration {
	if l.Rate == 0 {
		return 0
	}
	return time.Duration(float64(l.Effective()) / float64(l.Rate) * float64(time.Second))
}

const day = 24 * time.Hour

// ParseDuration reads a duration as the configuration has it: 90s, 1h30m, 7d.
func ParseDuration(text string) (time.Duration, error) { return parseDuration(text) }

// parseDuration reads Go's syntax and, for retention, whole days before it: 7d,
// 1d12h.
func parseDuration(text string) (time.Duration, error) {
	bad := fmt.Errorf("%s is not a duration; write it like 30s or 2m", quote(text))
	var days time.Duration
	rest := text
	if d, after, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseUint(d, 10, 32)
		if err != nil || strings.HasPrefix(after, "-") || strings.HasPrefix(after, "+") {
			return 0, bad
		}
		if n > uint64(math.MaxInt64/day)-1 {
			return 0, fmt.Errorf("%s is too long for a duration", quote(text))
		}
		days, rest = time.Duration(n)*day, after
		if rest == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil {
		if _, err := strconv.ParseFloat(text, 64); err == nil {
			return 0, fmt.Errorf("%s has no unit; write it like %ss", quote(text), text)
		}
		return 0, bad
	}
	if days > 0 && d > math.MaxInt64-days {
		return 0, fmt.Errorf("%s is too long for a duration", quote(text))
	}
	return days + d, nil
}

// formatDuration is time.Duration's form without trailing zero units: 2m, not
// 2m0s.
func formatDuration(d time.Duration) string {
	if d != 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
