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
	// maxAhead is how far a device's clock may be ahead of the broker's and still be
	// believed. Clocks of one fleet differ by seconds; minutes ahead is a clock that was
	// set wrong, and its newest report would stay the newest until that time has come.
	maxAhead = 5 * time.Minute
	// minTime is the earliest time that a device's clock is believed to have measured,
	// 1980-01-01: a clock that was never set counts from 1970 (Unix) or 1980 (GPS, FAT).
	minTime = 315532800
)

// Clock is what a payload's ts says of the time of measurement.
type Clock struct {
	time time.Time // zero: ts is absent, null, or of no year that time.Time covers
	// Given reports whether the payload has a ts at all.
	Given bool
}

// ReadClock parses the payload's ts: a number of seconds, milliseconds, microseconds or
// nanoseconds since 1970, or text of RFC 3339. The error is one sentence and means that the
// value is no time at all; a time that cannot be right is none.
func ReadClock(ts []byte) (Clock, error) {
	if !Given(ts) {
		return Clock{}, nil
	}
	t, err := parseTimestamp(ts)
	return Clock{time: t, Given: true}, err
}

// Measured is the device's own time where its clock can be believed, else at, which is when
// the message was received. believed reports which.
func (c Clock) Measured(at time.Time) (t time.Time, believed bool) {
	if !c.Given || c.time.Unix() < minTime || c.time.After(at.Add(maxAhead)) {
		return at, false
	}
	return c.time, true
}

// parseTimestamp is a function of the bytes alone. The magnitude of a number decides its
// unit: 1e11 s is the year 5138 and 1e11 ms is 1973, and so on by factors of 1,000.
func parseTimestamp(value []byte) (time.Time, error) {
	if value[0] == '"' {
		var text string
		if err := json.Unmarshal(value, &text); err != nil {
			return time.Time{}, fmt.Errorf("ts is no text: %w", err)
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
	// With a fraction or an exponent, a float64 of seconds is exact to less than a µs.
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

// parseRFC3339 also takes what RFC 3339 allows and package time does not: lower-case t and z
// and a space between date and time (§5.6), and the second 60 (§5.7), which is the first of
// the next minute.
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

// Shorten is a value of a device's, fit for a sentence.
func Shorten(value []byte) string {
	const limit = 40
	value = []byte(strings.ToValidUTF8(string(value), "?"))
	if len(value) > limit {
		return strings.ToValidUTF8(string(value[:limit]), "") + "…"
	}
	return string(value)
}
