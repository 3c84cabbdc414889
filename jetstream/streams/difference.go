package streams

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// Empty reports whether everything exists and equals its spec.
func (d *Difference) Empty() bool {
	return !slices.ContainsFunc(d.Streams, func(s StreamDifference) bool { return s.State != Equal }) &&
		!slices.ContainsFunc(d.Consumers, func(c ConsumerDifference) bool { return c.State != Equal })
}

// String returns the difference as text: one block per stream or consumer, and a line that counts
// them. A block begins with one of these marks:
//
//	'+'  it does not exist, create and apply create it
//	'~'  it differs, apply changes it
//	'!'  it differs in a way that apply cannot change
//	'='  nothing to do
//
// If a field of a stream is marked with !, the bridge does not start.
func (d *Difference) String() string {
	var b strings.Builder
	counts := map[byte]int{}
	writeBlock := func(object string, state State, fields, initial []Field) {
		mark := mark(state, fields)
		counts[mark]++
		fmt.Fprintf(&b, "%c %s\n", mark, object)
		if state == Missing {
			writeFields(&b, initial)
		}
		writeFields(&b, fields)
	}
	for _, s := range d.Streams {
		writeBlock("stream "+s.Spec.Name, s.State, s.Fields, s.Spec.initialFields())
		for _, h := range s.Owners {
			fmt.Fprintf(&b, "  ! %-22s%s belongs to stream %s\n", "subjects", h.Subject, h.Stream)
		}
	}
	for _, c := range d.Consumers {
		writeBlock("consumer "+c.Spec.key(), c.State, c.Fields, c.Spec.initialFields())
	}
	fmt.Fprintf(&b, "\n%d to create, %d to change, %d in conflict, %d as declared\n", counts['+'], counts['~'], counts['!'], counts['='])
	return b.String()
}

func writeFields(b *strings.Builder, fields []Field) {
	for _, f := range fields {
		mark := ' '
		if f.Contradicts || f.Fixed {
			mark = '!'
		}
		fmt.Fprintf(b, "  %c %-22s", mark, f.Name)
		if f.Is != "" {
			fmt.Fprintf(b, "%s -> ", f.Is)
		}
		b.WriteString(f.Want)
		if f.Fixed {
			b.WriteString("   (cannot be changed on what exists)")
		}
		b.WriteByte('\n')
	}
}

func mark(state State, fields []Field) byte {
	switch {
	case state == Missing:
		return '+'
	case state == Equal:
		return '='
	case state == SubjectConflict || slices.ContainsFunc(fields, func(f Field) bool { return f.Fixed }):
		return '!'
	}
	return '~'
}

// initialFields lists the settings of a new stream. Limits are included only if set.
func (s Spec) initialFields() []Field {
	s = s.withDefaults()
	fields := []Field{
		{Name: "subjects", Want: formatList(s.Subjects)},
		{Name: "storage", Want: strings.ToLower(s.Storage.String())},
		{Name: "retention", Want: strings.ToLower(s.Retention.String())},
		{Name: "max_age", Want: formatAge(s.MaxAge)},
		{Name: "max_bytes", Want: formatBytes(s.MaxBytes)},
	}
	if len(s.Sources) > 0 {
		fields = append(fields, Field{Name: "sources", Want: formatSources(addSources(nil, s.Sources))})
	}
	if s.MaxMsgs > 0 {
		fields = append(fields, Field{Name: "max_msgs", Want: formatCount(s.MaxMsgs)})
	}
	if s.MaxMsgsPerSubject > 0 {
		fields = append(fields, Field{Name: "max_msgs_per_subject", Want: formatCount(s.MaxMsgsPerSubject)})
	}
	return append(fields,
		Field{Name: "discard", Want: formatDiscard(s.Discard)},
		Field{Name: "duplicate_window", Want: formatDuration(s.DuplicateWindow)},
		Field{Name: "num_replicas", Want: strconv.Itoa(s.Replicas)},
	)
}

func (c ConsumerSpec) initialFields() []Field {
	c = c.withDefaults()
	return []Field{
		{Name: "filter_subjects", Want: formatList(c.FilterSubjects)},
		{Name: "ack_policy", Want: "explicit"},
		{Name: "ack_wait", Want: formatDuration(c.AckWait)},
		{Name: "max_ack_pending", Want: formatCount(int64(c.MaxAckPending))},
		{Name: "max_deliver", Want: formatCount(int64(c.MaxDeliver))},
	}
}

// SameSubjects reports whether two lists contain the same subjects, in any order.
func SameSubjects(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

func formatList(subjects []string) string {
	if len(subjects) == 0 {
		return "all"
	}
	return strings.Join(subjects, ", ")
}

func formatAge(d time.Duration) string {
	if d <= 0 {
		return "no limit"
	}
	return formatDuration(d)
}

// formatDuration writes 24h for 24h0m0s and 7d for 168h0m0s.
func formatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func formatBytes(n int64) string {
	if n < 0 {
		return "no limit"
	}
	for _, unit := range []struct {
		size int64
		name string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= unit.size && n%unit.size == 0 {
			return strconv.FormatInt(n/unit.size, 10) + " " + unit.name
		}
	}
	return strconv.FormatInt(n, 10) + " B"
}

func formatCount(n int64) string {
	if n < 0 {
		return "no limit"
	}
	return strconv.FormatInt(n, 10)
}

func formatDiscard(d natsjs.DiscardPolicy) string {
	if d == natsjs.DiscardNew {
		return "new"
	}
	return "old"
}
