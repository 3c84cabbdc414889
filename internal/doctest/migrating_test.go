package doctest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/testrun"
)

// subscriber is an ingest program from before the migration: an MQTT client with its own session
// that writes all messages.
type subscriber struct {
	t      *testing.T
	client paho.Client
	db     *pgx.Conn
}

func startSubscriber(t *testing.T, f *fleet) *subscriber {
	t.Helper()
	s := &subscriber{t: t}
	var err error
	s.db, err = pgx.Connect(t.Context(), f.postgres.URL)
	require.NoError(t, err)
	s.client = paho.NewClient(paho.NewClientOptions().AddBroker(f.broker.URL()).SetClientID("ingest").
		SetUsername("ingest").SetPassword("secret").SetCleanSession(false).SetProtocolVersion(4).
		SetDefaultPublishHandler(s.store))
	f.await(s.client.Connect())
	f.await(s.client.Subscribe("tenant/+/device/+/+", 1, nil))
	return s
}

// store runs in paho's own goroutine, one message at a time.
func (s *subscriber) store(_ paho.Client, m paho.Message) {
	levels := strings.Split(m.Topic(), "/")
	_, err := s.db.Exec(context.Background(), "INSERT INTO telemetry (tenant_id, device_id, payload) VALUES ($1, $2, $3)",
		levels[1], levels[3], string(m.Payload()))
	if err != nil {
		s.t.Errorf("the subscriber stores a message: %v", err)
	}
}

func (s *subscriber) stop() {
	s.client.Disconnect(1000)
	require.NoError(s.t, s.db.Close(context.Background()))
}

func TestMigratingPage(t *testing.T) {
	t.Parallel()
	p := readPage(t, "migrating.md")
	p.check(t, "docker")
	f := newServers(t, nil)
	host, port, err := net.SplitHostPort(strings.TrimPrefix(f.broker.URL(), "tcp://"))
	require.NoError(t, err)
	s := newSession(t, []string{
		"nats://127.0.0.1:4222", f.nats.URL, "postgres://postgres@127.0.0.1:5432", "postgres://postgres@" + f.postgres.Addr,
		"mqtt://127.0.0.1:1883", "mqtt://" + host + ":" + port, "-h 127.0.0.1 -p 1883", "-h " + host + " -p " + port,
		"127.0.0.1:9464", testrun.Address(t).String(), "127.0.0.1:9465", testrun.Address(t).String(),
	}, "nats", "psql", "mosquitto_sub")
	require.NoError(t, os.WriteFile(filepath.Join(s.Dir, "bridge-password"), []byte(password), 0o600))
	db, err := pgx.Connect(t.Context(), f.postgres.URL)
	require.NoError(t, err)
	_, err = db.Exec(t.Context(), `CREATE TABLE telemetry (id bigserial PRIMARY KEY, time timestamptz NOT NULL DEFAULT now(),
		tenant_id text NOT NULL, device_id text NOT NULL, payload jsonb NOT NULL)`)
	require.NoError(t, err)
	require.NoError(t, db.Close(t.Context()))

	sent := 0
	send := func(device string, n int) {
		for range n {
			sent++
			f.publish("acme/"+device, "tenant/acme/device/"+device+"/telemetry", fmt.Sprintf(`{"n":%d}`, sent))
		}
	}
	old := startSubscriber(t, f)
	t.Cleanup(func() {
		if t.Failed() {
			for _, name := range []string{"bridge.log", "ingest.log"} {
				log, _ := os.ReadFile(filepath.Join(s.Dir, name)) // the lines so far
				t.Logf("%s:\n%s", name, log)
			}
		}
	})
	send("dev-1", 3) // before the bridge was installed
	f.rows(3)

	sessions := func(prefix string) int {
		n := 0
		for _, c := range f.broker.Clients() {
			if strings.HasPrefix(c.ID, prefix) {
				n++
			}
		}
		return n
	}
	s.play(p, map[string]hook{
		"until mqtt-nats-bridge healthcheck": {after: func() {
			send("dev-1", 3)
			send("dev-2", 2)
			f.publish("globex/dev-7", "tenant/acme/device/dev-3/telemetry", `{"n":"not its own"}`)
			f.rows(9)
			f.awaitMessages("TELEMETRY", 5)
			f.awaitMessages("QUARANTINE", 1)
		}},
		"until ingest healthcheck":                       {after: func() { f.rowsOf("bridge.telemetry", 5) }},
		`psql -q -v ON_ERROR_STOP=1 "$db" -f switch.sql`: {before: func() { old.stop() }},
		"mosquitto_sub -h 127.0.0.1 -p 1883 -i ingest": {
			before: func() { require.Equal(t, 1, sessions("ingest")) },
			after: func() {
				f.eventually("the end of the old session", func() bool { return sessions("ingest") == 0 })
				send("dev-2", 2) // the old ingest is stopped
				f.rowsOf("bridge.telemetry", 11)
			},
		},
		`psql -q -v ON_ERROR_STOP=1 "$db" -f rollback.sql`: {after: func() {
			old = startSubscriber(t, f)
			t.Cleanup(old.stop)
			send("dev-1", 1)
			f.rows(12)
			f.rowsOf("bridge.telemetry", 12)
		}},
		"for p in": {
			before: func() { require.Equal(t, 16, sessions("bridge-p")) },
			after: func() {
				f.eventually("the end of the bridge's sessions", func() bool { return sessions("bridge-p") == 0 })
			},
		},
	})
}
