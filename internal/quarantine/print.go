package quarantine

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"mqtt-nats-bridge/internal/screen"
)

// name returns the tenant and device of a message for display.
func name(tenant, device string) string {
	if tenant == "" && device == "" {
		return "-"
	}
	return screen.Printable(tenant + "/" + device)
}

// PrintList writes messages as text, one line per message.
func PrintList(w io.Writer, messages []Message) error {
	if len(messages) == 0 {
		_, err := fmt.Fprintln(w, "no message in quarantine is selected")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SEQUENCE\tQUARANTINED\tREASON\tDEVICE\tBYTES\tWHY")
	for _, m := range messages {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%d\t%s\n", m.Sequence, m.Stored.Format(time.RFC3339),
			screen.Printable(m.Reason), name(m.Tenant, m.Device), m.Size, screen.Printable(m.Detail))
	}
	return t.Flush()
}

// maxShown bounds the part of a payload that is shown, in bytes.
const maxShown = 4 << 10

// Print writes one message as text. file is the configuration file in the replay command.
func (m *Message) Print(w io.Writer, file string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, screen.Printable(value))
		}
	}
	line("sequence", fmt.Sprint(m.Sequence))
	line("quarantined", m.Stored.Format(time.RFC3339Nano))
	if !m.At.IsZero() {
		line("received", m.At.Format(time.RFC3339Nano))
	}
	line("reason", m.Reason)
	line("why", m.Detail)
	line("tenant", m.Tenant)
	line("device", m.Device)
	line("topic", m.Topic)
	line("cn", m.CN)
	line("message id", m.ID)
	line("subject", m.Subject)
	if m.Retained {
		line("retained", "yes")
	}
	if m.ByIngest {
		line("from", "a worker that could not process it; the original message is in its stream")
	}
	size := fmt.Sprintf("%d bytes", m.Size)
	if m.Kept < m.Size {
		size += fmt.Sprintf(", the first %d are kept", m.Kept)
	}
	line("payload", size)
	line("to replay", m.Replay(file))
	if err := t.Flush(); err != nil || len(m.Payload) == 0 {
		return err
	}
	shown := m.Payload[:min(len(m.Payload), maxShown)]
	fmt.Fprintln(w)
	if text := string(shown); utf8.ValidString(text) && strings.IndexFunc(text, unprintable) < 0 {
		fmt.Fprintln(w, text)
	} else {
		fmt.Fprint(w, hex.Dump(shown))
	}
	if len(shown) < len(m.Payload) {
		fmt.Fprintf(w, "… %d more bytes; --payload writes all bytes\n", len(m.Payload)-len(shown))
	}
	return nil
}

func unprintable(r rune) bool {
	return !unicode.IsPrint(r) && r != '\n' && r != '\t'
}

// Print writes the counts as text.
func (s *Stats) Print(w io.Writer) error {
	if s.Messages == 0 {
		_, err := fmt.Fprintln(w, "no message in quarantine is selected")
		return err
	}
	fmt.Fprintf(w, "%d messages, quarantined from %s to %s\n\n", s.Messages, s.Oldest.Format(time.RFC3339), s.Newest.Format(time.RFC3339))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "REASON\tMESSAGES\tDEVICES\tNEWEST\tWHY, OF THE NEWEST")
	for _, r := range s.Reasons {
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\n", screen.Printable(r.Reason), r.Messages, r.Devices, r.Newest.Format(time.RFC3339), screen.Printable(r.Detail))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DEVICE\tMESSAGES\tNEWEST\tREASONS")
	for _, d := range s.Devices {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", name(d.Tenant, d.Device), d.Messages, d.Newest.Format(time.RFC3339), counts(d.Reasons))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if s.OtherDevices > 0 {
		fmt.Fprintf(w, "and %d other devices\n", s.OtherDevices)
	}
	return nil
}

// counts formats counts by name, the largest first.
func counts(of map[string]int) string {
	names := slices.SortedFunc(maps.Keys(of), func(a, b string) int {
		return cmp.Or(cmp.Compare(of[b], of[a]), cmp.Compare(a, b))
	})
	for i, n := range names {
		names[i] = fmt.Sprintf("%s %d", screen.Printable(n), of[n])
	}
	return strings.Join(names, ", ")
}
