package page

import (
	"math"
	"sync"
	"time"
)

const (
	// tick is the interval between two samples of a program.
	tick = 2 * time.Second
	// slotTicks is the number of samples per point of a chart, and the period of a rate.
	slotTicks = 5
	// slots is the number of points per hour.
	slots = int(time.Hour / (tick * slotTicks))
	// maxSeries bounds a history's memory: 64 series of 360 points take 180 KB.
	maxSeries = 64
	// maxRates bounds the measures per sample, including those without a chart, such as lanes.
	maxRates = 4096
)

// Measure is a number that a history records.
type Measure struct {
	// Chart is the title of the chart that shows the measure; empty: only its rate is kept.
	Chart, Name string
	Value       float64
	// Gauge marks a level. Other measures count from the start, and the chart shows their rate.
	Gauge bool
}

type key struct{ chart, name string }

// sample contains the measures of a program at one moment.
type sample struct {
	at     time.Time
	values map[key]float64
}

// line is one series, a ring of slots.
type line struct {
	key
	gauge  bool
	counts [slots]float32 // the increase of a counter within the slot, or the highest value of a gauge
}

// History records the last hour of a program's measures. It is safe for concurrent use.
type History struct {
	mu     sync.Mutex
	lines  []*line
	index  map[key]*line
	recent []sample // the latest slotTicks+1, oldest first
	begin  sample   // the first sample of the current slot
	peaks  map[key]float64
	ticks  int
	took   [slots]float32 // the duration of each slot in seconds
	filled int            // the number of slots with data
	next   int            // the next slot in the rings
}

// NewHistory returns an empty history.
func NewHistory() *History {
	return &History{index: map[key]*line{}, peaks: map[key]float64{}}
}

// Add records the measures of one moment. It is called once per tick.
func (h *History) Add(at time.Time, measures []Measure) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := sample{at, make(map[key]float64, min(len(measures), maxRates))}
	for _, m := range measures {
		k := key{m.Chart, m.Name}
		if len(s.values) < maxRates {
			s.values[k] = m.Value
		}
		if m.Chart == "" {
			continue
		}
		if h.index[k] == nil && len(h.lines) < maxSeries {
			h.index[k] = &line{key: k, gauge: m.Gauge}
			h.lines = append(h.lines, h.index[k])
		}
		if m.Gauge {
			h.peaks[k] = max(h.peaks[k], m.Value)
		}
	}
	h.recent = append(h.recent, s)
	if len(h.recent) > slotTicks+1 {
		h.recent = append(h.recent[:0], h.recent[1:]...)
	}
	if h.begin.values == nil {
		h.begin = s
		clear(h.peaks)
		return
	}
	if h.ticks++; h.ticks == slotTicks {
		h.close(s)
	}
}

// close ends the current slot with the sample s.
func (h *History) close(s sample) {
	for _, l := range h.lines {
		if l.gauge {
			l.counts[h.next] = float32(h.peaks[l.key])
		} else {
			l.counts[h.next] = float32(max(s.values[l.key]-h.begin.values[l.key], 0))
		}
	}
	h.took[h.next] = float32(s.at.Sub(h.begin.at).Seconds())
	h.next = (h.next + 1) % slots
	h.filled = min(h.filled+1, slots)
	h.begin, h.ticks = s, 0
	clear(h.peaks)
}

// Rate returns the increase of a counter per second over the last ten seconds; NaN if it is not known
// yet.
func (h *History) Rate(chart, name string) float64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rate(key{chart, name})
}

func (h *History) rate(k key) float64 {
	if len(h.recent) < 2 {
		return math.NaN()
	}
	first, last := h.recent[0], h.recent[len(h.recent)-1]
	took := last.at.Sub(first.at).Seconds()
	if took <= 0 {
		return math.NaN()
	}
	return max(last.values[k]-first.values[k], 0) / took
}

// Charts returns the charts in the order in which their measures were first recorded.
func (h *History) Charts() []Chart {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []Chart
	at := map[string]int{}
	for _, l := range h.lines {
		i, ok := at[l.chart]
		if !ok {
			i = len(all)
			at[l.chart] = i
			unit := "per second"
			if l.gauge {
				unit = ""
			}
			all = append(all, Chart{
				Title: l.chart, Unit: unit, Points: slots, StepSeconds: (tick * slotTicks).Seconds(), Series: []Series{},
			})
		}
		all[i].Series = append(all[i].Series, h.series(l))
	}
	return all
}

func (h *History) series(l *line) Series {
	s := Series{Name: l.name, Values: make(Points, 0, h.filled)}
	highest, total := 0.0, 0.0
	for i := range h.filled {
		slot := (h.next - h.filled + i + slots) % slots
		value := float64(l.counts[slot])
		total += value
		if !l.gauge {
			value /= max(float64(h.took[slot]), 1)
		}
		highest = max(highest, value)
		s.Values = append(s.Values, value)
	}
	if !l.gauge {
		total += max(h.recent[len(h.recent)-1].values[l.key]-h.begin.values[l.key], 0) // of the current slot
		now := h.rate(l.key)
		if !math.IsNaN(now) {
			highest = max(highest, now)
		}
		s.Now, s.Highest, s.Total = Rate(now), Rate(highest), Count(uint64(math.Round(total)))
		return s
	}
	now := h.recent[len(h.recent)-1].values[l.key]
	s.Now, s.Highest = Count(uint64(now)), Count(uint64(max(highest, now)))
	return s
}
