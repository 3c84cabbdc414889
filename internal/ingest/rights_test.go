package ingest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
)

// The server refuses a pull and an acknowledgement
// without an answer to either, which looks like a stream without messages.
func TestConsumerPermissions(t *testing.T) {
	t.Parallel()
	p := sharedPostgres(t)
	const info, next = `"$JS.API.CONSUMER.INFO.>"`, `"$JS.API.CONSUMER.MSG.NEXT.>"`
	for name, c := range map[string]struct{ may, lacks, says string }{
		"to pull":        {info + `, "$JS.ACK.>"`, "$JS.API.CONSUMER.MSG.NEXT.TELEMETRY.ingest-workers", "nothing can be pulled"},
		"to acknowledge": {info + ", " + next, "$JS.ACK.TELEMETRY.ingest-workers.>", "cannot be acknowledged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := peers.NATSServer(t, peers.NATSOptions{Config: fmt.Sprintf(`
				jetstream: enabled
				authorization { users: [
					{ user: all, password: all },
					{ user: some, password: some, permissions: { publish: [%s], subscribe: ["_INBOX.>", "$JS.EVENT.>"] } },
				] }
			`, c.may)})
			r := &rig{t: t, database: createDatabase(t, p.url)}
			r.connect(strings.Replace(server.URL, "//", "//all:all@", 1))
			r.publish(telemetry("m1", `{}`))
			r.nats = strings.Replace(server.URL, "//", "//some:some@", 1)
			i := r.ingest("consumers=verify", "shadow.stream=", "commands.stream=")
			r.eventually(func() bool {
				ready, problems := i.Ready()
				return !ready && len(problems) == 1 && strings.Contains(problems[0].Problem, c.lacks+": ") &&
					strings.Contains(problems[0].Problem, c.says)
			}, func() any { return i.Problems() })
		})
	}
}

func TestConsumerPermissionViolation(t *testing.T) {
	t.Parallel()
	violation := func(text string) error { return fmt.Errorf("%w: %s", nats.ErrPermissionViolation, text) }
	r := &rights{}
	for n := range 3 {
		known, first := r.refused(violation(fmt.Sprintf(`Permissions Violation for Publish to "$JS.ACK.TELEMETRY.w.1.%d.1.1795515137835929593.0"`, n)))
		require.True(t, known)
		require.Equal(t, n == 0, first)
	}
	_, first := r.refused(violation(`Permissions Violation for Publish to "$JS.ACK.hub.abcdef.SHADOW.w.1.1.1.1795515137835929593.0.x"`))
	require.True(t, first)
	for _, other := range []string{`Permissions Violation for Subscription to "$JS.EVENT.x"`, `Permissions Violation for Publish to "quarantine.x"`, "", `Permissions Violation for Publish to "`} {
		known, _ := r.refused(violation(other))
		require.False(t, known, other)
	}
	problems := r.problems()
	require.Len(t, problems, 2)
	require.Contains(t, problems[0].Problem, "$JS.ACK.TELEMETRY.w.>")
	require.Contains(t, problems[1].Problem, "$JS.ACK.hub.abcdef.SHADOW.w.>")
	r.granted()
	require.Empty(t, r.problems())
}
