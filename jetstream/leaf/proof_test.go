package leaf_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/natstest"
)

// One goroutine waits for the link while another opens it. The race detector must find nothing.
func TestLeafLinkWhileItOpens(t *testing.T) {
	t.Parallel()
	o := leafOptions(t, "nats-leaf://127.0.0.1:1", "site-a")
	l := startLeaf(t, o)
	fill(t, l, 0, 1)
	require.NoError(t, l.Close())
	l = startLeaf(t, o)
	_, problem := l.Link()
	require.Contains(t, problem, "waiting for the hub")
	at := map[string]uint64{}
	all, err := l.Backlog(natstest.Context(t), nil)
	require.NoError(t, err)
	for _, b := range all {
		at[b.Stream] = 0
	}

	stop := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = l.Link()
			}
		}
	})
	err = l.ConfirmSequences(at)
	close(stop)
	wait.Wait()
	require.NoError(t, err)
	_, problem = l.Link()
	require.NotContains(t, problem, "waiting for the hub")
}
