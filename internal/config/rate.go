package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/schema"
)

// Rate is in messages per second; 0 is no limit.
type Rate float64

// leastRate is one an hour: below it the limiter's interval stops making sense,
// and with burst's bound it keeps burst / rate within an int64 of ns.
const leastRate = 1.0 / 3600

// Kind implements the kind of a key.
func (r *Rate) Kind() string { return "rate" }

// Parse implements the reading of a key.
func (r *Rate) Parse(text string) error {
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
		return fmt.Errorf("%s is not a rate; write messages per second like 10 or 0.5, or 30/m or 100/h", schema.Quote(text))
	}
	f /= per
	if f < 0 {
		return fmt.Errorf("%s is negative; write 0 for no limit", schema.Quote(text))
	}
	if f != 0 && f < leastRate*(1-1e-9) {
		return fmt.Errorf("%s is below the least rate, 1/h; write 0 for no limit", schema.Quote(text))
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
