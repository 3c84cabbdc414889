package ingest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/jetstream"
)

const (
	// minTime and maxTime bound what a device may say of the time, in s. A
	// clock that was never set says 1970; what lies after 2100 is a unit or a
	// field gone wrong, and would be the latest of its device for ever.
	minTime = 0
	maxTime = 4102444800 // 2100-01-01
	// leastMillis is where a number stops being seconds: 1e11 s is the year
	// 5138, 1e11 ms is March 1973.
	leastMillis = 1e11
)

// parseTimestamp reads the payload's ts: a number of seconds or milliseconds since
// 1970, or text as of RFC 3339. It is a function of the bytes alone.
func parseTimestamp(value []byte) (time.Time, error) {
	if value[0] == '"' {
		var text string
		if err := json.Unmarshal(value, &text); err != nil {
			return time.Time{}, fmt.Errorf("ts is no text: %w", err)
		}
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return time.Time{}, fmt.Errorf("ts is %s, which is no time of RFC 3339 such as 2026-01-31T12:00:00Z", shorten(value))
		}
		return t, checkTime(t, value)
	}
	// Whole numbers exactly; with a fraction or an exponent a float64 is exact
	// to less than a µs.
	if n, err := strconv.ParseInt(string(value), 10, 64); err == nil {
		if n >= leastMillis || n <= -leastMillis {
			t := time.UnixMilli(n)
			return t, checkTime(t, value)
		}
		t := time.Unix(n, 0)
		return t, checkTime(t, value)
	}
	f, err := strconv.ParseFloat(string(value), 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("ts is %s: must be seconds, milliseconds or a time of RFC 3339", shorten(value))
	}
	if f >= leastMillis || f <= -leastMillis {
		f /= 1000
	}
	if !(f >= minTime && f < maxTime) {
		return time.Time{}, timeRange(value)
	}
	t := time.UnixMicro(int64(f*1e6 + 0.5))
	return t, checkTime(t, value)
}

func checkTime(t time.Time, value []byte) error {
	if s := t.Unix(); s < minTime || s >= maxTime {
		return timeRange(value)
	}
	return nil
}

func timeRange(value []byte) error {
	return fmt.Errorf("ts is %s, which is not between 1970 and 2100: seconds, milliseconds or a time of RFC 3339 are understood", shorten(value))
}

// received is when the message was: the broker's word where there is one, else the
// stream's. byStream: only the latter is known, which a copy of the message has
// its own of.
func received(m *jetstream.Message) (t time.Time, byStream bool) {
	if m.Header != nil {
		if text := m.Header.Get(bridge.HeaderTime); text != "" {
			if t, err := time.Parse(time.RFC3339Nano, text); err == nil && checkTime(t, nil) == nil {
				return t, false
			}
		}
	}
	return m.Time, true
}

// shorten is a value of a device's, fit for a sentence.
func shorten(value []byte) string {
	const limit = 40
	value = bytes.ToValidUTF8(value, []byte("?"))
	if len(value) > limit {
		return string(bytes.ToValidUTF8(value[:limit], nil)) + "…"
	}
	return string(value)
}
