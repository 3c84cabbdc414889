package limit

import "time"

// history counts the messages charged to a tenant in the past, by the time at which they were sent.
// Each scale counts in windows of its own width, from one second up by factors of four, and keeps
// the latest ones. A late message is checked against the time at which it was sent, whatever was
// charged since. The order in which lanes deliver a backlog therefore does not matter.
//
// A tenant within its limit sends at most burst + rate × width in any window, so none of its
// messages is rejected. For other tenants that bound applies in every window still kept: a message
// of age A is checked with windows of A/16 and wider. See DESIGN.md, "Rate".
type history [historyScales][historySlots]window

const (
	historyScales = 9 // 1 s, 4 s, 16 s … 65,536 s
	historySlots  = 64
	finestWindow  = int64(time.Second)
	// HistoryReach is the age up to which messages are distinguished: 47 days. Older messages count
	// as that old.
	HistoryReach = (historySlots - 1) * finestWindow << (2 * (historyScales - 1))
)

// window counts the messages of one time span. number is its index in spans of that width since the
// epoch.
type window struct{ number, count uint32 }

// take charges one message sent at that time (ns since the epoch) and reports whether it conforms.
// A message that does not conform is not charged.
func (h *history) take(m Meter, at int64) bool {
	var charged [historyScales]*window
	width, finest := finestWindow, at/finestWindow
	for i := range h {
		number := uint32(finest >> (2 * i))
		w := &h[i][number%historySlots]
		if w.number < number {
			*w = window{number: number}
		}
		if w.number == number { // otherwise the message is older than this scale reaches
			if int64(w.count)*m.interval > m.slack+width {
				return false
			}
			charged[i] = w
		}
		width <<= 2
	}
	for _, w := range charged {
		if w != nil {
			w.count++
		}
	}
	return true
}
