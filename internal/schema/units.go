package schema

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size in bytes, written as 256KiB, 1MiB, 10GiB, 2TiB or a plain number.
type Bytes int64

// sizes contains the units from large to small, the order in which String tries them.
var sizes = []struct {
	suffix string
	factor int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// Kind returns the name of the type in the reference.
func (b *Bytes) Kind() string { return "size" }

// Parse reads the value of a leaf.
func (b *Bytes) Parse(text string) error {
	digits, factor := text, int64(1)
	for _, s := range sizes {
		if rest, ok := strings.CutSuffix(text, s.suffix); ok {
			digits, factor = strings.TrimRight(rest, " "), s.factor
			break
		}
	}
	// ParseUint accepts no sign, underscore or fraction.
	n, err := strconv.ParseUint(digits, 10, 63)
	if errors.Is(err, strconv.ErrRange) || err == nil && n > math.MaxInt64/uint64(factor) {
		return fmt.Errorf("%s is too large for a size", Quote(text))
	}
	if err != nil {
		return fmt.Errorf("%s is not a size; write it like 65536, 256KiB, 1MiB or 10GiB", Quote(text))
	}
	*b = Bytes(int64(n) * factor)
	return nil
}

// String returns the shortest exact form that Parse accepts.
func (b Bytes) String() string {
	for _, s := range sizes {
		if int64(b) != 0 && s.factor > 1 && int64(b)%s.factor == 0 {
			return strconv.FormatInt(int64(b)/s.factor, 10) + s.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

const day = 24 * time.Hour

// ParseDuration reads Go's syntax, optionally preceded by whole days for retention: 90s, 7d, 1d12h.
func ParseDuration(text string) (time.Duration, error) {
	bad := fmt.Errorf("%s is not a duration; write it like 30s or 2m", Quote(text))
	var days time.Duration
	rest := text
	if d, after, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseUint(d, 10, 32)
		if err != nil || strings.HasPrefix(after, "-") || strings.HasPrefix(after, "+") {
			return 0, bad
		}
		if n > uint64(math.MaxInt64/day)-1 {
			return 0, fmt.Errorf("%s is too long for a duration", Quote(text))
		}
		days, rest = time.Duration(n)*day, after
		if rest == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil {
		if _, err := strconv.ParseFloat(text, 64); err == nil {
			return 0, fmt.Errorf("%s has no unit; write it like %ss", Quote(text), text)
		}
		return 0, bad
	}
	if days > 0 && d > math.MaxInt64-days {
		return 0, fmt.Errorf("%s is too long for a duration", Quote(text))
	}
	return days + d, nil
}

// FormatDuration returns time.Duration's format without trailing zero units: 2m, not 2m0s.
func FormatDuration(d time.Duration) string {
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
