package page

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fill adds n ticks in which a counter grows by gain each.
func fill(h *History, begin time.Time, n int, gain float64) (end time.Time) {
	for i := range n {
		h.Add(begin.Add(time.Duration(i)*tick), []Measure{
			{Chart: "Messages", Name: "stored", Value: gain * float64(i)},
			{Chart: "Waiting", Name: "lane", Value: float64(i % 7), Gauge: true},
			{Name: "only a rate", Value: 2 * float64(i)},
		})
	}
	return begin.Add(time.Duration(n) * tick)
}

func TestHistoryLastHour(t *testing.T) {
	t.Parallel()
	h := NewHistory()
	require.True(t, math.IsNaN(h.Rate("Messages", "stored")), "no rate of one sample")
	require.Empty(t, h.Charts())
	fill(h, time.Unix(0, 0), 3*slots*slotTicks+1, 20)
	require.InDelta(t, 10, h.Rate("Messages", "stored"), 1e-9)
	require.InDelta(t, 1, h.Rate("", "only a rate"), 1e-9)
	charts := h.Charts()
	require.Len(t, charts, 2, "what has no chart is in none")
	stored := charts[0].Series[0]
	require.Len(t, stored.Values, slots)
	require.InDelta(t, 10, stored.Values[0], 1e-3)
	require.Equal(t, "36,000", stored.Total, "ten per second for an hour")
	require.Equal(t, "10", stored.Now)
	waiting := charts[1].Series[0]
	require.Equal(t, "6", waiting.Highest)
	require.Empty(t, waiting.Total)
}

func TestHistory(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	t.Run("a counter that begins late has no past", func(t *testing.T) {
		t.Parallel()
		h := NewHistory()
		end := fill(h, now, 2*slotTicks+1, 1)
		for i := range slotTicks {
			h.Add(end.Add(time.Duration(i)*tick), []Measure{{Chart: "Quarantined", Name: "rate_limited", Value: 30}})
		}
		late := h.Charts()[2].Series[0]
		require.Equal(t, Points{0, 0, 3}, late.Values)
		require.Equal(t, "30", late.Total)
	})
	t.Run("the slot in progress counts in the total", func(t *testing.T) {
		t.Parallel()
		h := NewHistory()
		end := fill(h, now, 2, 4)
		require.Equal(t, "4", h.Charts()[0].Series[0].Total)
		h.Add(end, []Measure{{Chart: "Messages", Name: "stored", Value: 7}, {Chart: "Quarantined", Name: "late", Value: 3}})
		require.Equal(t, "7", h.Charts()[0].Series[0].Total)
		require.Equal(t, "3", h.Charts()[2].Series[0].Total)
		fill(h, end, slotTicks, 4)
		require.Equal(t, "16", h.Charts()[0].Series[0].Total, "not twice once the slot has ended")
	})
	t.Run("a counter that begins again is not negative", func(t *testing.T) {
		t.Parallel()
		h := NewHistory()
		end := fill(h, now, slotTicks+1, 50)
		fill(h, end, slotTicks, 1)
		for _, v := range h.Charts()[0].Series[0].Values {
			require.GreaterOrEqual(t, v, 0.0)
		}
		require.GreaterOrEqual(t, h.Rate("Messages", "stored"), 0.0)
	})
	t.Run("series are bounded", func(t *testing.T) {
		t.Parallel()
		h := NewHistory()
		var many []Measure
		for i := range 10 * maxSeries {
			many = append(many, Measure{Chart: "Messages", Name: fmt.Sprint(i), Value: 1})
		}
		h.Add(now, many)
		require.Len(t, h.Charts()[0].Series, maxSeries)
	})
}

func TestPointsAsJSON(t *testing.T) {
	t.Parallel()
	body, err := json.Marshal(Points{0, 1.23456, 123456.7, math.NaN()})
	require.NoError(t, err)
	require.JSONEq(t, `[0,1.23,123457,null]`, string(body))
	var back Points
	require.NoError(t, json.Unmarshal(body, &back))
	require.Equal(t, 1.23, back[1])
	require.True(t, math.IsNaN(back[3]))
}

func TestFormats(t *testing.T) {
	t.Parallel()
	for want, is := range map[string]string{
		"0": Rate(0), "<0.1": Rate(0.01), "2.5": Rate(2.5), "1,235": Rate(1234.6), "–": Rate(math.NaN()),
		"512 B": Bytes(512), "1.0 KiB": Bytes(1024), "10 GiB": Bytes(10 << 30), "1.0 MiB": Bytes(1<<20 - 1),
		"45 s": Span(45 * time.Second), "3 min": Span(3 * time.Minute), "26 h": Span(26 * time.Hour), "3 d": Span(72 * time.Hour),
		"now": Ago(time.Unix(5, 0), time.Unix(4, 0)), "10 s ago": Ago(time.Unix(5, 0), time.Unix(15, 0)),
	} {
		require.Equal(t, want, is)
	}
	require.Equal(t, Warn, FillCell(0.85).Level)
	require.Equal(t, Bad, FillCell(1.7).Level)
	require.Equal(t, "100 %", FillCell(1.7).Text)
}
