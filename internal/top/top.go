package top

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"time"

	"mqtt-nats-bridge/internal/page"
	"mqtt-nats-bridge/internal/screen"
)

const (
	interval = 2 * time.Second
	// printedColumns is the width of the output if it is not a terminal.
	printedColumns = 120
)

// Options configures Show.
type Options struct {
	URL     *url.URL // URL of the admin endpoint
	In, Out *os.File
	Colour  bool
}

// Show shows the view until ctx ends or q is pressed. If In or Out is not a terminal, it prints the view
// once.
func Show(ctx context.Context, o Options) error {
	if screen.Interact(o.In, o.Out, func(s *screen.Screen, keys <-chan byte) { follow(ctx, o, s, keys) }) {
		return nil
	}
	return once(ctx, o)
}

// once prints one view without limiting the number of lines.
func once(ctx context.Context, o Options) error {
	v, err := fetch(ctx, o.URL)
	if err != nil {
		return err
	}
	for _, line := range render(state{view: v}, printedColumns, 0, o.Colour) {
		if _, err := fmt.Fprintln(o.Out, line); err != nil {
			return fmt.Errorf("print the view: %w", err)
		}
	}
	return nil
}

// follow draws each view and each failure.
func follow(ctx context.Context, o Options, s *screen.Screen, keys <-chan byte) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resized, stop := screen.Resized()
	defer stop()
	updates := make(chan state)
	go poll(ctx, o.URL, updates)
	current := state{}
	for {
		s.Draw(func(columns int) []string { return render(current, columns-1, s.Rows(), o.Colour) })
		select {
		case <-ctx.Done():
			return
		case key, ok := <-keys:
			if !ok || key == 'q' || key == 'Q' {
				return
			}
		case <-resized:
		case next := <-updates:
			if next.err != nil { // keep the last view
				next.view, next.at = current.view, current.at
			}
			current = next
		}
	}
}

// state is the state of the display: the last view, its time, and the error if there is no newer one.
type state struct {
	view *page.View
	at   time.Time
	err  error
}

// poll fetches the view periodically until ctx ends.
func poll(ctx context.Context, base *url.URL, updates chan<- state) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		v, err := fetch(ctx, base)
		select {
		case updates <- state{view: v, at: time.Now(), err: err}:
		case <-ctx.Done():
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
