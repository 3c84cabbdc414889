package deploytest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/drill"
	"mqtt-nats-bridge/jetstream/conn"
)

// The operator of nats.conf has the permissions for a drill; the bridge's own user may not read.
func TestDrillNATSUsers(t *testing.T) {
	t.Parallel()
	s, _ := startNATS(t, "../../nats.conf")
	operator := connectNATS(t, s, "operator")
	createStreams(t, operator.js)
	b, err := broker.Open(broker.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })
	url, err := config.ParseBrokerURL(b.URL())
	require.NoError(t, err)
	plan := defaultPlan(t)
	o := drill.Options{
		Out: t.Output(), JSON: true, For: 100 * time.Millisecond, Settle: 100 * time.Millisecond, Broker: url,
		Devices: 1, Rate: 10, Window: 1, KeepAlive: drill.DefaultKeepAlive, Tenant: drill.DefaultTenant, Topic: drill.DefaultTopic,
		Topics: plan.Rules.Topics,
		NATS:   conn.Options{URL: s.ClientURL(), User: "operator", Password: natsPasswords["operator"]},
	}
	for _, spec := range plan.Streams {
		o.Streams = append(o.Streams, spec.Name)
	}
	// No bridge runs: all messages are lost, but the streams could be read.
	require.ErrorIs(t, drill.Run(t.Context(), o), drill.ErrFailed)
	operator.requireNoRefusals(t)

	o.NATS.User, o.NATS.Password, o.NATS.InboxPrefix = "bridge", natsPasswords["bridge"], "_INBOX.bridge"
	require.ErrorContains(t, drill.Run(t.Context(), o), "needs permission to create consumers")
}
