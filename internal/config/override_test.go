package config

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOverrideSyntax(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]RateLimit{
		`{"rate":50,"burst":200}`:        {50, 200},
		` {"rate": "30/m", "burst": 3} `: {0.5, 3},
		`{"rate":"0.5"}`:                 {0.5, 0},
		`{"rate":1e3,"burst":"7"}`:       {1000, 7},
		`{"rate":0}`:                     {0, 0},
	} {
		got, err := ParseOverride([]byte(text), 24*time.Hour)
		require.NoError(t, err, text)
		require.InDelta(t, float64(want.Rate), float64(got.Rate), 1e-12, text)
		require.Equal(t, want.Burst, got.Burst, text)
	}
}

func TestOverrideErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		``:                           `"" is not a JSON object; write it like {"rate": 50, "burst": 200}`,
		`50`:                         `"50" is not a JSON object`,
		`null`:                       `"null" is not a JSON object`,
		`[{"rate":50}]`:              `is not a JSON object`,
		`{"rate":50`:                 `is not a JSON object`,
		`{"rate":50}{"rate":5}`:      `contains more than one JSON object`,
		`{"burst":50}`:               `has no rate`,
		`{"rate":50,"brust":3}`:      `"brust" is not known; write rate and burst`,
		`{"rate":-1}`:                `rate: "-1" is negative; write 0 for no limit`,
		`{"rate":"fast"}`:            `rate: "fast" is not a rate; write messages per second`,
		`{"rate":null}`:              `rate: "null" is not a rate`,
		`{"rate":2000000}`:           `rate: "2000000" is out of range; write at most 1000000`,
		`{"rate":1,"burst":1.5}`:     `burst: "1.5" is not a whole number`,
		`{"rate":1,"burst":-1}`:      `burst: "-1" is out of range`,
		`{"rate":{"a":1}}`:           `rate: "{\"a\":1}" is not a rate`,
		`{"rate":"1/h","burst":100}`: `takes 100h to refill, longer than limits.idle (1d)`,
		`{"rate":` + strings.Repeat("1", 2000) + `}`: `contains 2009 bytes`,
	} {
		_, err := ParseOverride([]byte(text), 24*time.Hour)
		require.ErrorContains(t, err, want, text)
	}
}

func FuzzParseOverride(f *testing.F) {
	for _, text := range []string{`{"rate":50,"burst":200}`, `{"rate":"30/m"}`, `{"rate":"\u0031"}`, `null`, `{"rate":1,"rate":2}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		limit, err := ParseOverride(data, 24*time.Hour)
		switch {
		case err != nil:
			require.Equal(t, RateLimit{}, limit)
			require.NotEmpty(t, err.Error())
		default:
			require.GreaterOrEqual(t, float64(limit.Rate), 0.0)
			require.LessOrEqual(t, float64(limit.Rate), 1e6)
			require.LessOrEqual(t, limit.Effective(), 2_000_000)
			require.LessOrEqual(t, limit.refill(), 24*time.Hour+time.Second)
		}
	})
}
