package payload

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	// maxAhead is the maximum time that a device's clock may be ahead of the broker's. Clocks of
	// one fleet differ by seconds. A clock that is minutes ahead was set wrong, and its report
	// would remain the newest until that time is reached.
	maxAhead = 5 * time.Minute
	// minTime is the earliest plausible time of measurement, 1980-01-01. A clock that was never set
	// counts from 1970 (Unix) or 1980 (GPS, FAT).
	minTime = 315532800
)

// Measured returns the device's own time if it is plausible, otherwise at, the time when the
// message was received. believed reports whether it is the device's time.
//
// The device's time is the payload's ts: a number of seconds, milliseconds, microseconds or
// nanoseconds since 1970, or RFC 3339 text. The error is one sentence and means that the value is
// not a time. An implausible time is not an error.
func Measured(ts []byte, at time.Time) (t time.Time, believed bool, err error) {
	if !Given(ts) {
		return at, false, nil
	}
	t, err = parseTimestamp(ts)
	if err != nil || t.Unix() < minTime || t.After(at.Add(maxAhead)) {
		return at, false, err
	}
	return t, true, nil
}

// parseTimestamp parses a number or a text. The magnitude of a number determines its unit: 1e11 s
// is the year 5138, 1e11 ms is 1973, and so on in factors of 1,000. The result depends only on
// value. It is zero if the number is outside the years that time.Time covers.
func parseTimestamp(value []byte) (time.Time, error) {
	if value[0] == '"' {
		var text string
		if err := json.Unmarshal(value, &text); err != nil {
			return time.Time{}, fmt.Errorf("ts is not valid text: %w", err)
		}
		t, err := parseRFC3339(text)
		if err != nil {
			return time.Time{}, fmt.Errorf("ts is %s, which is not a time of RFC 3339 such as 2026-01-31T12:00:00Z", Shorten(value))
		}
		return t, nil
	}
	if n, err := strconv.ParseInt(string(value), 10, 64); err == nil {
		return fromInteger(n), nil
	}
	// A number with a fraction or an exponent: a float64 of seconds is exact to less than 1 µs.
	f, err := strconv.ParseFloat(string(value), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return time.Time{}, fmt.Errorf("ts is %s: must be a number of seconds, ms, µs or ns since 1970, or a time of RFC 3339", Shorten(value))
	}
	for unit := 1.0; unit <= 1e9; unit *= 1000 {
		if math.Abs(f) < 1e11*unit {
			return time.UnixMicro(int64(math.Floor(f/unit*1e6 + 0.5))), nil
		}
	}
	return time.Time{}, nil
}

func fromInteger(n int64) time.Time {
	switch size := n; {
	case size > -1e11 && size < 1e11:
		return time.Unix(n, 0)
	case size > -1e14 && size < 1e14:
		return time.UnixMilli(n)
	case size > -1e17 && size < 1e17:
		return time.UnixMicro(n)
	}
	return time.Unix(0, n)
}

// parseRFC3339 also accepts forms that RFC 3339 allows and package time does not: lower-case t and
// z, a space between date and time (§5.6), and the leap second 60 (§5.7), which becomes the first
// second of the next minute.
func parseRFC3339(text string) (time.Time, error) {
	const date, minute = len("2026-01-31"), len("2026-01-31T12:00:")
	if len(text) < minute+2 {
		return time.Time{}, errors.New("too short")
	}
	separator := strings.ToUpper(text[date : date+1])
	if separator == " " {
		separator = "T"
	}
	text = text[:date] + separator + strings.ToUpper(text[date+1:])
	leap := text[minute:minute+2] == "60"
	if leap {
		text = text[:minute] + "59" + text[minute+2:]
	}
	t, err := time.Parse(time.RFC3339, text)
	if err == nil && leap {
		t = t.Truncate(time.Second).Add(time.Second)
	}
	return t, err
}

// Given reports whether a member is present and not null.
func Given(value []byte) bool { return value != nil && string(value) != "null" }

// Shorten returns a value from a device, shortened for use in an error text.
func Shorten(value []byte) string {
	const limit = 40
	value = []byte(strings.ToValidUTF8(string(value), "?"))
	if len(value) > limit {
		return strings.ToValidUTF8(string(value[:limit]), "") + "…"
	}
	return string(value)
}
