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
	// printedColumns is the width of what is printed where there is no terminal.
	printedColumns = 120
)

// Options of a top.
type Options struct {
	URL     *url.URL // of the admin endpoint
	In, Out *os.File
	Colour  bool
}

// Show shows the view until ctx ends or q is pressed. Where In or Out is no terminal, it
// prints the view once.
func Show(ctx context.Context, o Options) error {
	if screen.Interact(o.In, o.Out, func(s *screen.Screen, keys <-chan byte) { follow(ctx, o, s, keys) }) {
		return nil
	}
	return once(ctx, o)
}

// once prints one view, in as many lines as it takes.
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

// follow draws each answer and each failure to get one.
func follow(ctx context.Context, o Options, s *screen.Screen, keys <-chan byte) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resized, stop := screen.Resized()
	defer stop()
	answers := make(chan state)
	go ask(ctx, o.URL, answers)
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
		case answer := <-answers:
			if answer.err != nil { // what is shown stays
				answer.view, answer.at = current.view, current.at
			}
			current = answer
		}
	}
}

// state is what is known of the program: its last view and when that came, and why there
// is no newer one.
type state struct {
	view *page.View
	at   time.Time
	err  error
}

// ask fetches the view again and again until ctx ends.
func ask(ctx context.Context, base *url.URL, answers chan<- state) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		v, err := fetch(ctx, base)
		select {
		case answers <- state{view: v, at: time.Now(), err: err}:
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
