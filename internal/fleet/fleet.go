package fleet

import (
	"context"
	"errors"
	"sync"
)

// maxConnecting bounds the number of concurrent connects and TLS handshakes.
const maxConnecting = 16

// Fleet is a set of devices that publish at the same time.
type Fleet struct {
	Devices []*Device
	cancel  context.CancelFunc
	wait    sync.WaitGroup

	mu   sync.Mutex
	errs []error
}

// Connect connects all devices without publishing. If one fails, all are disconnected.
func (f *Fleet) Connect(ctx context.Context) error {
	slots := make(chan struct{}, maxConnecting)
	var wait sync.WaitGroup
	for _, d := range f.Devices {
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			f.addError(d.Connect(ctx))
		})
	}
	wait.Wait()
	err := f.Err()
	if err != nil {
		f.Disconnect()
	}
	return err
}

// Start lets all devices publish until Stop.
func (f *Fleet) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	for _, d := range f.Devices {
		f.wait.Go(func() { f.addError(d.Run(ctx)) })
	}
}

// Stop ends the publishing and waits until each device has received its PUBACKs or has given up. The
// devices stay connected.
func (f *Fleet) Stop() {
	f.cancel()
	f.wait.Wait()
}

// Disconnect closes all connections.
func (f *Fleet) Disconnect() {
	var wait sync.WaitGroup
	for _, d := range f.Devices {
		wait.Go(d.Disconnect)
	}
	wait.Wait()
}

func (f *Fleet) addError(err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, err)
}

// Err returns the errors of the devices so far.
func (f *Fleet) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.errs...)
}
