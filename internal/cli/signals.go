package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
)

// stopSignal is the cause of a context that was canceled by a signal.
type stopSignal struct{ os.Signal }

// Error implements error.
func (s stopSignal) Error() string { return fmt.Sprintf("signal: %s", s.String()) }

// UntilSignal returns a context that ends with the first of the signals; its cause is a stopSignal.
// The second signal terminates the process immediately: the peers redeliver the messages in flight.
// The goroutine runs until the process ends.
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
