package leaf

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// nats-server removes purged data in a separate goroutine, and Shutdown does not wait for it: files
// vanish while the store is synced.
func TestCloseAfterPurge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	purged := filepath.Join(dir, "streams", "QUARANTINE", "__msgs__")
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			err := os.MkdirAll(purged, 0o700)
			if err == nil {
				err = os.WriteFile(filepath.Join(purged, "1.blk"), nil, 0o600)
			}
			if err == nil {
				err = os.RemoveAll(purged)
			}
			if err != nil {
				stopped <- err
				return
			}
		}
	}()
	for range 300 {
		require.NoError(t, closeStore(dir, storeMark{}))
	}
	close(stop)
	require.NoError(t, <-stopped)
	mark, err := readStoreMark(dir)
	require.NoError(t, err)
	require.True(t, mark.Clean)
	require.Error(t, closeStore(filepath.Join(dir, "none"), storeMark{}), "the store itself")
}
