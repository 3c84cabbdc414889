package drill

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/screen"
)

// intro returns a line with the load, the broker and the streams.
func (d *drill) intro() string {
	return fmt.Sprintf("drill %s: %d devices, %g messages per second -> %s -> %s\n", d.run, len(d.crew.fleet), d.o.Rate, d.o.Broker, strings.Join(d.o.Streams, ", "))
}

// clockTime is the format of a message's time in a report: UTC, as in the bridge's log.
const clockTime = "15:04:05.000"

// text renders the report as text.
func (r *Report) text() string {
	var b strings.Builder
	row := func(label string, n int, note string) {
		b.WriteString(strings.TrimRight(fmt.Sprintf("  %-16s%14s   %s", label, screen.Grouped(uint64(n)), note), " ") + "\n")
	}
	fmt.Fprintf(&b, "\nDrill %s, %s of publishing from %s UTC\n\n", r.Run, time.Duration(r.Seconds*float64(time.Second)).Round(100*time.Millisecond), r.Started.Format("2006-01-02 15:04:05"))
	row("published", r.Published, "")
	row("acknowledged", r.Acknowledged, "")
	row("stored", r.Stored, "")
	row("lost", r.Lost, r.lostNote())
	row("duplicated", r.Duplicated, "")
	row("resent", r.Resent, resentNote(r.Resent))
	row("inversions", r.Inversions, "")
	row("wrong device", r.WrongDevice, "")
	row("quarantined", total(r.Quarantined), byReason(r.Quarantined))
	gap := ""
	if r.LongestGapDevice != "" {
		gap = fmt.Sprintf("of one device %.1f s, %s", r.LongestDeviceGap, r.LongestGapDevice)
	}
	fmt.Fprintf(&b, "  %-16s%12.1f s   %s\n", "longest gap", r.LongestGap, gap)
	row("disconnects", int(r.ConnectionsLost), fmt.Sprintf("%s failed", plural(int(r.ConnectsFailed), "reconnect")))
	r.messages(&b)
	if len(r.Expectations) > 0 {
		b.WriteString("\n")
	}
	for _, e := range r.Expectations {
		word := "ok"
		if !e.OK {
			word = "FAILED"
		}
		fmt.Fprintf(&b, "  %-7s %s\n          expected: %s\n          seen:     %s\n", word, e.Name, e.Expected, e.Seen)
	}
	if r.OK {
		b.WriteString("\npassed: every acknowledged message is accounted for\n")
	} else {
		fmt.Fprintf(&b, "\nFAILED: %s\n", r.failure())
	}
	return b.String()
}

// messages writes the lost messages and the findings.
func (r *Report) messages(b *strings.Builder) {
	if len(r.FirstLost) > 0 {
		b.WriteString("\n  lost, by the time of the PUBACK (UTC):\n")
	}
	for _, m := range r.FirstLost {
		fmt.Fprintf(b, "    %s  %s message %d\n", m.At.Format(clockTime), screen.Printable(m.Device), m.Seq)
	}
	if m := r.LastLost; m != nil {
		fmt.Fprintf(b, "    … the last of %s\n    %s  %s message %d\n", screen.Grouped(uint64(r.Lost)), m.At.Format(clockTime), screen.Printable(m.Device), m.Seq)
	}
	if len(r.Findings) > 0 {
		b.WriteString("\n  findings in the streams, by the time of storing (UTC):\n")
	}
	for _, m := range r.Findings {
		fmt.Fprintf(b, "    %s  %s: %s message %d, %s at %d, id %s\n", m.At.Format(clockTime), m.Kind, screen.Printable(m.Device), m.Seq, screen.Printable(m.Subject), m.Stream, screen.Printable(m.ID))
	}
}

// lostNote returns a possible cause of lost messages. Above quarantine.per_device the bridge keeps no
// copy of a rejected message. A killed broker loses messages that it had only in memory.
func (r *Report) lostNote() string {
	switch {
	case r.LostInQuarantined > 0:
		return fmt.Sprintf("%s of devices with messages in quarantine: above quarantine.per_device no copy is kept", screen.Grouped(uint64(r.LostInQuarantined)))
	case r.LostBeforeEnd > 0:
		return fmt.Sprintf("%s acknowledged less than %s before the device's connection ended", screen.Grouped(uint64(r.LostBeforeEnd)), beforeDisconnectWindow)
	}
	return ""
}

func resentNote(n int) string {
	if n == 0 {
		return ""
	}
	return "copies that devices sent again after a reconnect"
}

func total(reasons map[string]int) (n int) {
	for _, c := range reasons {
		n += c
	}
	return n
}

func byReason(reasons map[string]int) string {
	var by []string
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		by = append(by, fmt.Sprintf("%s %d", reason, reasons[reason]))
	}
	return strings.Join(by, ", ")
}
