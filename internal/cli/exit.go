package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/alecthomas/kong"

	"mqtt-nats-bridge/internal/config"
)

// The exit codes.
const (
	ExitOK     = 0
	ExitFailed = 1
	ExitUsage  = 2
)

// ErrReported means that the command has failed and the error is already printed.
var ErrReported = errors.New("already reported")

// UsageError is an error in the command line.
type UsageError struct{ Err error }

// Error implements error.
func (e UsageError) Error() string { return e.Err.Error() }

// WithExample appends the command's example, if it has one, to a parse error.
func WithExample(err error) error {
	var parse *kong.ParseError
	if !errors.As(err, &parse) {
		return err
	}
	node := parse.Context.Selected()
	if node == nil || !node.Target.CanAddr() {
		return err
	}
	if c, ok := node.Target.Addr().Interface().(interface{ Example() string }); ok {
		return fmt.Errorf("%w\nExample: %s", err, c.Example())
	}
	return err
}

// Exit prints an error as plain text, not as a log line, and returns the exit code.
func Exit(w io.Writer, program string, err error) int {
	var errs *config.Errors
	var usage UsageError
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, ErrReported):
		return ExitFailed
	case errors.As(err, &errs):
		fmt.Fprintln(w, errs)
		count := "1 error"
		if n := len(errs.List); n > 1 {
			count = fmt.Sprintf("%d errors", n)
		}
		fmt.Fprintf(w, "%s in the configuration\n", count)
		return ExitUsage
	case errors.As(err, &usage):
		fmt.Fprintf(w, "%s: %v\nTry %[1]s --help\n", program, err)
		return ExitUsage
	}
	fmt.Fprintf(w, "%s: %v\n", program, err)
	return ExitFailed
}
