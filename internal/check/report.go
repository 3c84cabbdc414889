package check

import (
	"fmt"
	"io"
	"strings"
)

// Report writes one line per finding, immediately:
//
//	ok    what: text
//	note  what: text
//	FAIL  what: problem: advice
type Report struct {
	// Findings contains all findings so far.
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

// OK reports a check that passed.
func (r *Report) OK(what, format string, args ...any) { r.line("ok  ", what, format, args) }

// Note reports information that the operator should know or verify. It is not a failure.
func (r *Report) Note(what, format string, args ...any) { r.line("note", what, format, args) }

// Fail reports a failed check. The text ends with the advice.
func (r *Report) Fail(what, format string, args ...any) {
	r.fails++
	r.line("FAIL", what, format, args)
}

// Failed returns the number of failed checks.
func (r *Report) Failed() int { return r.fails }

// line writes a finding on one line: errors of peers may contain line breaks.
func (r *Report) line(verdict, what, format string, args []any) {
	text := strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ")
	r.Findings = append(r.Findings, Finding{strings.ToLower(strings.TrimSpace(verdict)), what, text})
	fmt.Fprintf(r.out, "%s  %s: %s\n", verdict, what, text)
}
