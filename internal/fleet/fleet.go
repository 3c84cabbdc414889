package fleet

import (
	"context"
	"errors"
	"sync"
)

// connecting bounds the TLS handshakes in progress at one time.
const connecting = 16

// Fleet is devices that publish together.
type Fleet struct {
	Devices []*Device
	cancel  context.CancelFunc
	wait    sync.WaitGroup

	mu   sync.Mutex
	errs []error
}

// Connect connects all devices; nothing is published yet. Where one fails, none stays
// connected.
func (f *Fleet) Connect(ctx context.Context) error {
	turn := make(chan struct{}, connecting)
	var wait sync.WaitGroup
	for _, d := range f.Devices {
		wait.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			f.note(d.Connect(ctx))
		})
	}
	wait.Wait()
	err := f.Err()
	if err != nil {
		f.Disconnect()
	}
	return err
}

// Start has all devices publish until Stop.
func (f *Fleet) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	for _, d := range f.Devices {
		f.wait.Go(func() { f.note(d.Run(ctx)) })
	}
}

// Stop ends the publishing and returns when every PUBACK has come, or has been given up.
// The devices stay connected.
func (f *Fleet) Stop() {
	f.cancel()
	f.wait.Wait()
}

// Disconnect ends all connections.
func (f *Fleet) Disconnect() {
	var wait sync.WaitGroup
	for _, d := range f.Devices {
		wait.Go(d.Disconnect)
	}
	wait.Wait()
}

func (f *Fleet) note(err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, err)
}

// Err is what went wrong with devices so far.
func (f *Fleet) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.errs...)
}
