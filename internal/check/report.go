package check

import (
	"fmt"
	"io"
	"strings"
)

// Report writes one line a finding, as it is found:
//
//	ok    what: text
//	note  what: text
//	FAIL  what: what is wrong: what to do
type Report struct {
	// Findings are all so far.
	Findings []Finding

	out   io.Writer
	fails int
}

// Finding is one line of a report.
type Finding struct {
	Verdict string `json:"verdict"` // ok, note or fail
	What    string `json:"what"`
	Text    string `json:"text"`
}

// NewReport returns a report that writes to out.
func NewReport(out io.Writer) *Report { return &Report{out: out} }

// OK is a check that passed.
func (r *Report) OK(what, format string, args ...any) { r.line("ok  ", what, format, args) }

// Note is what the operator should know or verify; it is no failure.
func (r *Report) Note(what, format string, args ...any) { r.line("note", what, format, args) }

// Fail is a check that failed. The text ends with what to do.
func (r *Report) Fail(what, format string, args ...any) {
	r.fails++
	r.line("FAIL", what, format, args)
}

// Failed is how many checks failed.
func (r *Report) Failed() int { return r.fails }

// line keeps a finding on one line: errors of peers may bring line breaks.
func (r *Report) line(verdict, what, format string, args []any) {
	text := strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ")
	r.Findings = append(r.Findings, Finding{strings.ToLower(strings.TrimSpace(verdict)), what, text})
	fmt.Fprintf(r.out, "%s  %s: %s\n", verdict, what, text)
}
