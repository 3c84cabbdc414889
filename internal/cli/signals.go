package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
)

// stopSignal is the cause of a context that a signal has ended.
type stopSignal struct{ os.Signal }

// Error implements error.
func (s stopSignal) Error() string { return fmt.Sprintf("signal: %s", s.String()) }

// UntilSignal returns a context that ends with the first of the signals, its cause a stopSignal.
// The second terminates the process immediately: messages in flight stay where they came from. Its
// goroutine lives as long as the process.
func UntilSignal(signals ...os.Signal) context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	received := make(chan os.Signal, 2)
	signal.Notify(received, signals...)
	go func() {
		cancel(stopSignal{<-received})
		<-received
		os.Exit(ExitFailed)
	}()
	return ctx
}
