package bridge

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/limit"
)

func subjectsLimited(n int) func(*LaneOptions) {
	return func(o *LaneOptions) { edit(o.Limits, func(l *limit.Limits) { l.Subjects = n }) }
}

// subjectsOf counts the subjects under which a lane has published.
func subjectsOf(s *script) map[string]int {
	all := map[string]int{}
	for _, m := range s.stream.all() {
		all[m.subject]++
	}
	return all
}

func TestSubjectsPerDevice(t *testing.T) {
	t.Parallel()
	t.Run("are bounded", func(t *testing.T) {
		t.Parallel()
		s := play(t, subjectsLimited(10))
		for i := range 1000 {
			s.deliver(uint16(i+1), fmt.Sprintf("tenant/acme/device/dev-1/made-up-%d", i), "p")
		}
		s.deliver(2000, "tenant/acme/device/dev-1/made-up-3", "known")
		require.Equal(t, "tenant.acme.device.dev-1.made-up-3", s.last().subject)
		s.deliver(2001, "tenant/acme/device/dev-1/shadow/reported", "one more")
		require.Equal(t, "quarantine.bad_topic", s.last().subject)
		require.Contains(t, s.last().headers[HeaderDetail], "10 subjects")
		require.Equal(t, "tenant/acme/device/dev-1/shadow/reported", s.last().headers[HeaderTopic])
		require.Len(t, subjectsOf(s), 11)
		s.deliver(2002, "tenant/acme/device/dev-2/shadow/reported", "another device's")
		require.Equal(t, "tenant.acme.device.dev-2.shadow.reported", s.last().subject)
	})
	t.Run("are bounded in quarantine too", func(t *testing.T) {
		t.Parallel()
		s := play(t, attested(t), subjectsLimited(10), limited(1, 3))
		for i := range 1000 {
			id := fmt.Sprintf("id%d", i)
			s.deliver(1, vouched(id+"a", noon, "acme/impostor", fmt.Sprintf("tenant/acme/device/dev-%d/telemetry", i)), "p")
			s.deliver(2, vouched(id+"b", noon, "acme/dev-1", fmt.Sprintf("tenant/acme/device/dev-1/made-up-%d", i)), "p")
			s.deliver(3, vouched(id+"c", noon, "acme/big", fmt.Sprintf("tenant/acme/device/big/made-up-%d", i)), strings.Repeat("x", 2000))
			s.deliver(4, vouched(id+"d", noon, "", fmt.Sprintf("tenant/acme/device/dev-%d/telemetry", i)), "p")
		}
		require.Len(t, subjectsOf(s), 10+10+10+10+4, "a bare one for each reason")
	})
	t.Run("are not bounded by a limit of 0", func(t *testing.T) {
		t.Parallel()
		s := play(t)
		for i := range 300 {
			s.deliver(1, fmt.Sprintf("tenant/acme/device/dev-1/made-up-%d", i), "p")
		}
		require.Len(t, subjectsOf(s), 300)
	})
}
