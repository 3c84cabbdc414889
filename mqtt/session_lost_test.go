package mqtt

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/testrun"
)

func TestSessionLossWhileStopped(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		had, present bool
		lost         uint64
	}{
		"kept":          {had: true, present: true},
		"lost":          {had: true, lost: 1},
		"the first one": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := listen(t, nil)
			s := b.open(&recorder{}, func(o *Options) { o.HadSession = c.had })
			b.connected(c.present)
			require.Eventually(t, func() bool { return s.Status().Subscribed }, testrun.Timeout, time.Millisecond)
			require.Equal(t, c.lost, s.Status().SessionsLost)
		})
	}
}
