package doctest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Before the page begins, the devices have sent these messages: dev-1 six, of which the limit has
// accepted two; dev-2 two; a device one message as dev-3, which it is not; dev-5 one that ingest
// cannot use.
func TestReplayPage(t *testing.T) {
	t.Parallel()
	p := readPage(t, "replay.md")
	p.check(t)
	f := newFleet(t)
	s := newSession(t, []string{
		"nats://127.0.0.1:4222", f.nats.URL, "postgres://postgres@127.0.0.1:5432", "postgres://postgres@" + f.postgres.Addr,
	}, "nats", "psql", "awk", "base64")
	require.NoError(t, os.WriteFile(filepath.Join(s.Dir, "bridge.yaml"), []byte(f.config("{rate: 10, burst: 20}")), 0o600))

	f.publish("acme/dev-1", "tenant/acme/device/dev-1/telemetry", `{"n":1}`, `{"n":2}`, `{"n":3}`, `{"n":4}`, `{"n":5}`, `{"n":6}`)
	f.awaitMessages("TELEMETRY", 2)
	f.awaitMessages("QUARANTINE", 4)
	f.publish("acme/dev-2", "tenant/acme/device/dev-2/telemetry", `{"n":1}`, `{"n":2}`)
	f.publish("globex/dev-7", "tenant/acme/device/dev-3/telemetry", `{"n":99}`)
	f.publish("acme/dev-5", "tenant/acme/device/dev-5/telemetry", "not JSON")
	f.awaitMessages("TELEMETRY", 5)
	f.awaitMessages("QUARANTINE", 6)

	s.play(p, map[string]hook{
		// The tables may show the state before the last command, or after the replay.
		`psql -At "$DATABASE_URL" -c "SELECT count(*)`:      {before: func() { f.rows(4) }},
		`psql -At "$DATABASE_URL" -c "SELECT count(*), max`: {before: func() { f.rows(8) }},
		"id=$(nats stream get QUARANTINE": {before: func() {
			f.publish("acme/dev-6", "tenant/acme/device/dev-6/telemetry", `{"n":1}`, `{"n":2}`, `{"n":3}`)
			f.awaitMessages("QUARANTINE", 3)
		}},
		"mqtt-nats-bridge quarantine replay --reason bad_payload": {
			before: func() { f.forgets(100 * time.Millisecond) },
			after: func() {
				f.awaitMessages("QUARANTINE", 2) // ingest rejects it again
				f.forgets(2 * time.Minute)
			},
		},
		"nats stream rm QUARANTINE":                   {before: func() { f.stopBridge(); f.stopIngest() }},
		"mqtt-nats-bridge streams plan":               {after: func() { f.startBridge(); f.startIngest() }},
		"nats consumer info TELEMETRY ingest-workers": {before: func() { f.worked(0) }},
		"nats server check consumer":                  {before: func() { f.worked(1500 * time.Millisecond) }},
	})
}
