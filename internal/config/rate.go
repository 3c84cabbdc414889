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

// leastRate is one message per hour. Together with the bound of burst, it keeps burst / rate within
// an int64 of nanoseconds.
const leastRate = 1.0 / 3600

// Kind returns the name of the type in the reference.
func (r *Rate) Kind() string { return "rate" }

// Parse reads the value of a key.
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
		return fmt.Errorf("%s is below the minimum, 1/h; write 0 for no limit", schema.Quote(text))
	}
	*r = Rate(f)
	return nil
}

// String returns the rate in messages per second, in a form that Parse accepts.
func (r Rate) String() string { return strconv.FormatFloat(float64(r), 'g', -1, 64) }

// Effective returns the burst to use: the configured one, or if that is 0, twice the rate and at
// least 1.
func (l RateLimit) Effective() int {
	if l.Burst > 0 {
		return l.Burst
	}
	return max(1, int(math.Ceil(2*float64(l.Rate))))
}

// refill returns the time that an empty bucket takes to fill.
func (l RateLimit) refill() time.Duration {
	if l.Rate == 0 {
		return 0
	}
	return time.Duration(float64(l.Effective()) / float64(l.Rate) * float64(time.Second))
}
