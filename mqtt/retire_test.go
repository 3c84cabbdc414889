package mqtt

import (
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"
)

func TestRetiringSession(t *testing.T) {
	t.Parallel()
	t.Run("unsubscribes and delivers the rest", testUnsubscribesAndDeliversTheRest)
	t.Run("missing UNSUBACK causes reconnect", testMissingUNSUBACKCausesReconnect)
}

func testUnsubscribesAndDeliversTheRest(t *testing.T) {
	t.Parallel()
	b := listen(t, nil)
	r := &recorder{ack: true}
	filters := []string{"$share/workers/tenant/+/device/+/+", "$share/workers/x"}
	s := b.open(r, func(o *Options) { o.Filters, o.Retiring = filters, true })
	for range 2 { // on every connection: the broker may have missed the first
		p := b.accept()
		p.connack(true)
		u, ok := p.read().(*packets.UnsubscribePacket)
		require.True(t, ok, "and no SUBSCRIBE")
		require.ElementsMatch(t, filters, u.Topics)
		p.send(publish("tenant/acme/device/d1/telemetry", 7, []byte("left")), packet(0xb0, []byte{byte(u.MessageID >> 8), byte(u.MessageID)}))
		require.Equal(t, uint16(7), p.read().Details().MessageID, "its PUBACK")
		eventually(t, s, func(st Status) bool { return st.Subscribed && st.Retiring && st.Problem == "" })
		p.Close()
		eventually(t, s, func(st Status) bool { return !st.Connected })
	}
	require.Len(t, r.deliveries(), 2)
}

func testMissingUNSUBACKCausesReconnect(t *testing.T) {
	virtual(t, func(t *testing.T, b *scripted) {
		s := b.open(&recorder{}, func(o *Options) { o.Retiring = true })
		p := b.accept()
		p.connack(true)
		require.IsType(t, &packets.UnsubscribePacket{}, p.read())
		begun := time.Now()
		p.rest()
		require.GreaterOrEqual(t, time.Since(begun), answerTimeout)
		b.accept()
		require.Contains(t, s.Status().Problem, errNoSuback.Error())
	})
}
