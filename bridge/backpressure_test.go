package bridge

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBackpressure(t *testing.T) {
	t.Parallel()
	t.Run("QoS 0 flood does not delay QoS 1", testQoS0FloodDoesNotDelayQoS1)
	t.Run("buffered bytes are bounded", testBufferedBytesAreBounded)
}

func testQoS0FloodDoesNotDelayQoS1(t *testing.T) {
	t.Parallel()
	s := play(t) // with the default limit
	for range 3 * maxUnsettled {
		s.deliver(0, telemetry, "flood", qos0)
	}
	require.Nil(t, s.Ready())
	require.Equal(t, uint64(3*maxUnsettled-10_000), s.Counts().QoS0Dropped)
	s.deliver(1, telemetry, "q1")
	require.Equal(t, "q1", s.stream.all()[10_000].payload)
}

func testBufferedBytesAreBounded(t *testing.T) {
	t.Parallel()
	s := play(t, func(o *LaneOptions) { o.MaxBytes = 100_000 })
	payload := strings.Repeat("x", 10_000)
	for range 20 {
		s.deliver(0, telemetry, payload, qos0)
	}
	require.Equal(t, uint64(15), s.Counts().QoS0Dropped, "half of the bytes are for QoS 0 at most")
	for id := range 5 {
		require.Nil(t, s.Ready())
		s.deliver(uint16(id+1), telemetry, payload)
	}
	room := s.Ready()
	require.NotNil(t, room)
	require.GreaterOrEqual(t, s.Counts().BufferFill, 1.0)
	for i := range 5 {
		requireClosed(t, room, false)
		s.stream.store(i)
	}
	s.stream.store(5)
	requireClosed(t, room, true)
	for i := 6; i < 10; i++ {
		s.stream.store(i)
	}
	require.Zero(t, s.Counts().BufferedBytes)
}
