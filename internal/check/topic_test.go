package check

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"mqtt-nats-bridge/subjects"
)

func (t Trace) field(name string) string {
	for _, f := range t.Fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

func TestTopicTrace(t *testing.T) {
	t.Parallel()
	t.Run("subject matches mapping", testSubjectMatchesMapping)
	t.Run("configured topic and rejected topic", testConfiguredTopicAndRejectedTopic)
	t.Run("partition of another bridge has no lane", testPartitionOfAnotherBridgeHasNoLane)
}

func testSubjectMatchesMapping(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"attested", "off"} {
		c, plan := load(t, "BRIDGE_IDENTITY_MODE="+mode)
		rapid.Check(t, func(t *rapid.T) {
			level := rapid.StringMatching(`[a-z.%*> é$]{1,12}`)
			topic := strings.Join([]string{"tenant", level.Draw(t, "tenant"), "device", level.Draw(t, "device"), level.Draw(t, "type")}, "/")
			trace, err := Topic(c, plan, topic)
			require.NoError(t, err)
			require.False(t, trace.Rejected, trace.String())
			want, err := subjects.FromTopic(topic)
			require.NoError(t, err)
			require.Equal(t, want, trace.field("subject"))
		})
	}
}

func testConfiguredTopicAndRejectedTopic(t *testing.T) {
	t.Parallel()
	c, plan := load(t, "BRIDGE_IDENTITY_MODE=off", "BRIDGE_QUARANTINE_STORE=false",
		`BRIDGE_TOPICS=[{topic: "plant/{tenant}/{device}/t", subject: "plant.{device}", format: envelope, stream: none}]`)
	trace, err := Topic(c, plan, "plant/a/b/t")
	require.NoError(t, err)
	require.False(t, trace.Rejected)
	require.Equal(t, "plant.b", trace.field("subject"))
	require.Equal(t, "not managed by the bridge", trace.field("stream"))
	require.Contains(t, trace.field("format"), "envelope")

	trace, err = Topic(c, plan, "plant/a/b/other")
	require.NoError(t, err)
	require.True(t, trace.Rejected)
	require.Contains(t, trace.field("quarantine"), "quarantine.store is false")
}

func testPartitionOfAnotherBridgeHasNoLane(t *testing.T) {
	t.Parallel()
	c, plan := load(t, "BRIDGE_LANES_PARTITIONS=0-7")
	trace, err := Topic(c, plan, "bridge/v1/d/id/1795442951630/612F62/tenant/a/device/b/t")
	require.NoError(t, err)
	require.Equal(t, "none: lanes.partitions is 0-7", trace.field("lane"))
}
