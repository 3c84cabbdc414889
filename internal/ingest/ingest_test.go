package ingest

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/jetstream/streams"
)

// TestIngest runs the cases that share one PostgreSQL, each with its own database and
// NATS server.
func TestIngest(t *testing.T) {
	t.Parallel()
	p := sharedPostgres(t)
	for name, test := range map[string]func(*testing.T, *rig){
		"a message becomes a row":                          aMessageBecomesARow,
		"redelivery changes nothing":                       redeliveryChangesNothing,
		"recreated stream is a new one":                    recreatedStreamIsNew,
		"bad input goes to quarantine and delays nothing":  badInputGoesToQuarantine,
		"rows that only the database rejects are found":    rowsOnlyTheDatabaseRejects,
		"a row that always fails blocks nothing":           aRowThatAlwaysFails,
		"the newest state wins":                            theNewestStateWins,
		"commands keep their newest acknowledgement":       commandsKeepTheNewest,
		"within a millisecond the stream's order is kept":  withinAMillisecond,
		"a quarantined message is replayed once":           aQuarantinedMessageIsReplayed,
		"externally created tables are awaited":            tablesAreAwaited,
		"missing consumers are created":                    missingConsumersAreCreated,
		"missing CREATE permission is reported":            missingCreatePermission,
		"simultaneous copies become one row":               simultaneousCopies,
		"a missing partition is awaited":                   aPartitionIsMissing,
		"metrics keep their names":                         metricsKeepTheirNames,
		"a hypertable is created with TimescaleDB":         aHypertableIsCreated,
		"a failing table is reported beside a healthy one": aFailingTableIsReported,
		"text is kept in a database that is not UTF-8":     aDatabaseThatIsNotUTF8,
		"a wrong device clock is ignored":                  aWrongClock,
		"a trace is continued":                             aTraceIsContinued,
		"a stored time from the future is discarded":       futureIsDiscarded,
		"arrays are split into rows":                       arraysAreSplit,
		"rows dropped by a trigger are not acknowledged":   rowsDroppedByATrigger,
		"row-level security is reported":                   rowLevelSecurity,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newRig(t, p))
		})
	}
}

func aMessageBecomesARow(t *testing.T, r *rig) {
	i := r.ingest()
	r.publish(
		message{"tenant.acme.device.dev-1.telemetry", `{"t":21.5,"ts":1700000000}`, map[string]string{"Nats-Msg-Id": "m1", "Bridge-Cn": "acme/dev-1", "Bridge-Time": "2023-11-14T22:13:21.123Z"}},
		message{"tenant.acme.device.dev-1.battery", `{"v":3.3,"ts":1700000000123}`, id("m2")},
		message{"tenant.a%2Eb.device.%00.t", `{"ts":"2023-11-14T22:13:20.5+01:00"}`, id("m3")},
		message{"tenant.acme.device.dev-2.telemetry", `{"no":"ts"}`, map[string]string{"Nats-Msg-Id": "m4", "Bridge-Time": "2024-01-01T00:00:00.001Z"}},
		message{"tenant.acme.device.dev-2.telemetry", `{"no":"id, no time","ts":null}`, nil},
	)
	r.settled()
	require.Empty(t, r.quarantined())
	got := r.query(`SELECT concat_ws('|', time AT TIME ZONE 'UTC', tenant_id, device_id, msg_type, payload, coalesce(cn, 'null'), msg_id, stream_seq,
		received_at AT TIME ZONE 'UTC') FROM telemetry ORDER BY stream_seq`)
	require.Equal(t, `2023-11-14 22:13:20|acme|dev-1|telemetry|{"t": 21.5, "ts": 1700000000}|acme/dev-1|m1|1|2023-11-14 22:13:21.123`, got[0])
	require.Regexp(t, `^2023-11-14 22:13:20.123\|acme\|dev-1\|battery\|{"v": 3.3, "ts": 1700000000123}\|null\|m2\|2\|20`, got[1])
	require.Regexp(t, `^2023-11-14 21:13:20.5\|a.b\|\|t\|.*\|m3\|3\|`, got[2])
	require.Equal(t, `2024-01-01 00:00:00.001|acme|dev-2|telemetry|{"no": "ts"}|null|m4|4|2024-01-01 00:00:00.001`, got[3])
	// A message without a time gets the stream's; one without an id gets a generated id.
	require.Equal(t, []string{"true|true"}, r.query(`SELECT concat_ws('|', (time = received_at)::text, (msg_id LIKE 'TELEMETRY-5-%')::text) FROM telemetry WHERE stream_seq = 5`))
	require.Len(t, got, 5)
	require.EqualValues(t, 5, i.Tables()[0].Rows)
}

// contents returns the rows of all tables.
func (r *rig) contents() []string {
	all := r.query(`SELECT t::text FROM telemetry t ORDER BY msg_id, time`)
	all = append(all, r.query(`SELECT t::text FROM device_state t ORDER BY 1`)...)
	return append(all, r.query(`SELECT t::text FROM device_commands t ORDER BY 1`)...)
}

func redeliveryChangesNothing(t *testing.T, r *rig) {
	_, stop := r.start()
	for n := range 300 {
		r.publish(
			message{fmt.Sprintf("tenant.acme.device.d%d.telemetry", n%7), fmt.Sprintf(`{"n":%d}`, n), id(fmt.Sprint("m", n))},
			message{fmt.Sprintf("tenant.acme.device.d%d.telemetry", n%7), fmt.Sprintf(`{"n":%d,"ts":%d}`, n, n), nil})
		if n%3 == 0 {
			r.publish(message{fmt.Sprintf("tenant.acme.device.d%d.shadow.reported", n%7), fmt.Sprintf(`{"version":%d,"reported":{"n":%d}}`, n*7919%300, n), nil},
				message{fmt.Sprintf("tenant.acme.device.d%d.commands.ack", n%7), fmt.Sprintf(`{"command_id":"c%d","status":"s%d","ts":%d}`, n%5, n, n*7919%300), nil})
		}
	}
	r.settled()
	before := r.contents()
	require.Len(t, r.query(`SELECT msg_id FROM telemetry`), 600)
	require.Len(t, r.query(`SELECT tenant_id FROM device_state`), 7)
	stop()
	r.replay()
	i := r.ingest("batch.messages=37")
	r.settled()
	require.EqualValues(t, 600, i.Tables()[0].Duplicates)
	require.Zero(t, i.Tables()[0].Rows)
	require.Equal(t, before, r.contents())
}

// The column stream_seq begins at 1 again.
func recreatedStreamIsNew(t *testing.T, r *rig) {
	r.ingest()
	same := message{"tenant.acme.device.dev-1.telemetry", `{"ts":1700000000}`, nil}
	r.publish(same, same)
	r.settled()
	s, err := r.js.Stream(t.Context(), "TELEMETRY")
	require.NoError(t, err)
	cfg := s.CachedInfo().Config
	require.NoError(t, r.js.DeleteStream(t.Context(), "TELEMETRY"))
	_, err = r.js.CreateStream(t.Context(), cfg)
	require.NoError(t, err)
	_, err = streams.Manage(t.Context(), r.js, streams.ManageCreate, nil, []streams.ConsumerSpec{{Stream: "TELEMETRY", Name: "ingest-workers"}})
	require.NoError(t, err)
	r.publish(same, same)
	r.settled()
	require.Equal(t, []string{"4"}, r.query(`SELECT count(*)::text FROM telemetry`))
}

// Text within the database's encoding is stored unchanged; other text is quarantined and
// not converted.
func aDatabaseThatIsNotUTF8(t *testing.T, r *rig) {
	_, err := r.db.Exec(t.Context(), "CREATE DATABASE "+r.db.Config().Database+"_latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
	require.NoError(t, err)
	r.database = strings.Replace(r.database, r.db.Config().Database, r.db.Config().Database+"_latin", 1)
	t.Cleanup(func() {
		_, _ = r.db.Exec(context.Background(), "DROP DATABASE "+r.db.Config().Database+"_latin WITH (FORCE)")
	})
	r.publish(telemetry("m1", `{"v":"é"}`), telemetry("m2", `{"v":"😀"}`), message{"tenant.acm%C3%A9.device.d.t", `{}`, id("m3")})
	r.ingest()
	r.settled()
	conf, err := pgx.ParseConfig(r.database)
	require.NoError(t, err)
	conf.RuntimeParams["client_encoding"] = "UTF8"
	db, err := pgx.ConnectConfig(t.Context(), conf)
	require.NoError(t, err)
	defer db.Close(context.Background())
	var got []string
	require.NoError(t, db.QueryRow(t.Context(), `SELECT array_agg(tenant_id || payload::text ORDER BY msg_id) FROM telemetry`).Scan(&got))
	require.Equal(t, []string{`acme{"v": "é"}`, `acmé{}`}, got)
	all := r.quarantined()
	require.Len(t, all, 1)
	require.Contains(t, all[0].Header.Get("Bridge-Detail"), "LATIN1")
}

func badInputGoesToQuarantine(t *testing.T, r *rig) {
	cases := map[string]string{ // payload → what the detail says
		``:                               "empty",
		`{`:                              "not JSON",
		`hello`:                          "not JSON",
		`[1,2]`:                          "not a JSON object",
		`21.5`:                           "not a JSON object",
		`{"a":"\u0000"}`:                 `\u0000`,
		`{"a\u0000b":1}`:                 `\u0000`,
		`{"a":"\ud800"}`:                 "surrogate",
		`{"a":"\udc00\ud800"}`:           "surrogate",
		`{"a":1e200000}`:                 "out of PostgreSQL's range",
		`{"a":[{"b":-1e99999999999}]}`:   "out of PostgreSQL's range",
		`{"a":1e-20000}`:                 "out of PostgreSQL's range",
		`{"ts":"40000-01-01T00:00:00Z"}`: "RFC 3339",
		`{"ts":true}`:                    "seconds, ms",
		`{"ts":{"s":1}}`:                 "seconds, ms",
		"{\"a\":\"\xff\"}":               "not UTF-8",
		strings.Repeat(`{"a":`, 600) + "1" + strings.Repeat("}", 600):       "nested deeper",
		strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000): "not JSON",
	}
	n := 0
	for payload := range cases {
		r.publish(telemetry(fmt.Sprint("bad", n), payload), telemetry(fmt.Sprint("good", n), fmt.Sprintf(`{"n":%d,"s":"\\u0000 is text","p":"\ud83d\ude00"}`, n)))
		n++
	}
	i := r.ingest()
	r.settled()
	require.Equal(t, []string{fmt.Sprint(n)}, r.query(`SELECT count(*)::text FROM telemetry WHERE msg_id LIKE 'good%'`))
	require.Equal(t, []string{fmt.Sprint(n)}, r.query(`SELECT count(*)::text FROM telemetry`))
	all := r.quarantined()
	require.Len(t, all, n)
	for _, m := range all {
		require.Equal(t, "quarantine.bad_payload.tenant.acme.device.dev-1.telemetry", m.Subject)
		require.Equal(t, "bad_payload", m.Header.Get("Bridge-Reason"))
		require.Contains(t, m.Header.Get("Bridge-Detail"), cases[string(m.Data)], "%.60s", m.Data)
		require.Regexp(t, `^bad\d+$`, m.Header.Get("Bridge-Msg-Id"))
		require.Equal(t, m.Header.Get("Bridge-Msg-Id")+".bad_payload", m.Header.Get("Nats-Msg-Id"))
		require.Equal(t, "tenant/acme/device/dev-1/telemetry", m.Header.Get("Mqtt-Topic"))
	}
	require.Zero(t, i.Tables()[0].Halvings, "no row was sent to the database")
}

func rowsOnlyTheDatabaseRejects(t *testing.T, r *rig) {
	r.migrate()
	_, err := r.db.Exec(t.Context(), `ALTER TABLE telemetry ADD CHECK (payload->>'v' IS NULL OR (payload->>'v')::int > 0)`)
	require.NoError(t, err)
	for n := range 200 {
		v := "1"
		if n == 50 || n == 51 || n == 199 {
			v = "-1"
		} else if n == 120 {
			v = `"no number"` // 22P02 within the constraint
		}
		r.publish(telemetry(fmt.Sprint("m", n), fmt.Sprintf(`{"v":%s}`, v)))
	}
	i := r.ingest()
	r.settled()
	require.Equal(t, []string{"196"}, r.query(`SELECT count(*)::text FROM telemetry`))
	all := r.quarantined()
	require.Len(t, all, 4)
	for _, m := range all {
		require.Contains(t, m.Header.Get("Bridge-Detail"), "telemetry does not take it: PostgreSQL: ")
	}
	require.NotZero(t, i.Tables()[0].Halvings)
}

// The row fails with an error that names no row, or that usually concerns the whole table.
func aRowThatAlwaysFails(t *testing.T, r *rig) {
	r.migrate()
	_, err := r.db.Exec(t.Context(), `
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF NEW.msg_id LIKE 'odd%0' THEN RAISE EXCEPTION 'not today'; END IF;
			IF NEW.msg_id LIKE 'odd%' THEN RAISE EXCEPTION 'no such function' USING ERRCODE = '42883'; END IF;
			RETURN NEW;
		END $$;
		CREATE TRIGGER refuse BEFORE INSERT ON telemetry FOR EACH ROW EXECUTE FUNCTION refuse()`)
	require.NoError(t, err)
	for n := range 100 {
		r.publish(telemetry(fmt.Sprint("m", n), `{}`))
		if n%30 == 0 {
			r.publish(telemetry(fmt.Sprint("odd", n+n/30%2), `{}`))
		}
	}
	i := r.ingest()
	r.eventually(func() bool { return r.query(`SELECT count(*)::text FROM telemetry`)[0] == "100" }, func() any { return i.Tables() })
	// A row that fails is found by halving, perhaps after all others are stored.
	r.eventually(func() bool { return len(i.Warnings()) > 0 }, func() any { return i.Tables() })
	ready, problems := i.Ready()
	require.True(t, ready, problems)
	require.Empty(t, r.quarantined())
	warnings := i.Warnings()
	require.Len(t, warnings, 1)
	require.Regexp(t, "^rows of telemetry fail and are redelivered: PostgreSQL: (not today|no such function)", warnings[0].Problem)
	// Its message was nak'ed, and once the cause is fixed it is stored.
	_, err = r.db.Exec(t.Context(), `DROP TRIGGER refuse ON telemetry`)
	require.NoError(t, err)
	r.settled()
	require.Equal(t, []string{"104"}, r.query(`SELECT count(*)::text FROM telemetry`))
}

func theNewestStateWins(t *testing.T, r *rig) {
	r.ingest("batch.messages=3")
	report := func(device, payload, at string) {
		r.publish(message{"tenant.acme.device." + device + ".shadow.reported", payload, map[string]string{"Bridge-Time": at}})
	}
	report("d1", `{"version":2,"reported":{"v":2}}`, "2026-01-01T00:00:01Z")
	report("d1", `{"version":1,"reported":{"v":1}}`, "2026-01-01T00:00:09Z")
	report("d1", `{"version":10,"reported":{"v":10}}`, "2026-01-01T00:00:03Z")
	report("d1", `{"version":9,"reported":{"v":9}}`, "2026-01-01T00:00:04Z")
	report("d2", `{"a":1}`, "2026-01-01T00:00:02Z") // no version: the later time wins
	report("d2", `{"a":0}`, "2026-01-01T00:00:01Z")
	report("d3", `{"a":1,"ts":1767225600}`, "2026-01-02T00:00:00Z")
	report("d3", `{"a":0,"ts":1767225599}`, "2026-01-03T00:00:00Z") // sent late
	report("d4", `{"version":"x","reported":{}}`, "2026-01-01T00:00:00Z")
	report("d5", `{"version":1,"reported":[]}`, "2026-01-01T00:00:00Z")
	r.settled()
	require.Equal(t, []string{
		`d1 {"v": 10} 10 2026-01-01 00:00:09`,
		`d2 {"a": 1} 1767225602000000 2026-01-01 00:00:02`,
		`d3 {"a": 1, "ts": 1767225600} 1767225600000000 2026-01-03 00:00:00`,
	}, r.query(`SELECT concat_ws(' ', device_id, reported, version, last_seen_at AT TIME ZONE 'UTC') FROM device_state ORDER BY device_id`))
	require.Len(t, r.quarantined(), 2)
}

func commandsKeepTheNewest(t *testing.T, r *rig) {
	r.ingest()
	ack := func(payload string) { r.publish(message{"tenant.acme.device.d1.commands.ack", payload, nil}) }
	ack(`{"command_id":"c1","status":"done","ts":1700000020}`)
	ack(`{"command_id":"c1","status":"accepted","ts":1700000010}`)
	ack(`{"id":7,"ts":1700000010}`)
	ack(`{"status":"done"}`)
	ack(`{"command_id":["x"]}`)
	r.settled()
	require.Equal(t, []string{"7 -", "c1 done"}, r.query(`SELECT concat_ws(' ', command_id, coalesce(status, '-')) FROM device_commands ORDER BY command_id`))
	require.Len(t, r.quarantined(), 2)
}

// The broker gives two messages that a device sends together the same time. The order is
// kept across batches, and when all messages are redelivered.
func withinAMillisecond(t *testing.T, r *rig) {
	send := func(status string) {
		at := map[string]string{"Bridge-Time": "2026-01-01T00:00:00.001Z"}
		r.publish(
			message{"tenant.acme.device.d1.shadow.reported", `{"is":"` + status + `"}`, at},
			message{"tenant.acme.device.d1.commands.ack", `{"command_id":"c1","status":"` + status + `"}`, at})
	}
	newest := func() []string {
		return append(r.query(`SELECT reported->>'is' FROM device_state`), r.query(`SELECT status FROM device_commands`)...)
	}
	_, stop := r.start()
	send("accepted")
	r.settled()
	send("running")
	r.settled()
	require.Equal(t, []string{"running", "running"}, newest(), "in batches of their own")
	stop()
	send("stopping")
	send("done")
	_, stop = r.start()
	r.settled()
	require.Equal(t, []string{"done", "done"}, newest(), "in one batch")
	before := r.contents()
	stop()
	r.replay()
	r.ingest("batch.messages=1")
	r.settled()
	require.Equal(t, before, r.contents())
}

// After the cause is fixed, an operator copies messages from quarantine to their subjects,
// twice.
func aQuarantinedMessageIsReplayed(t *testing.T, r *rig) {
	r.migrate()
	_, err := r.db.Exec(t.Context(), `ALTER TABLE telemetry ADD CONSTRAINT small CHECK (NOT payload ? 'big')`)
	require.NoError(t, err)
	r.publish(
		telemetry("m1", `{"big":1}`),
		message{"tenant.acme.device.dev-1.telemetry", `{"big":2}`, nil},
		telemetry("m3", `{"small":1}`))
	r.ingest()
	r.settled()
	require.Len(t, r.quarantined(), 2)
	_, err = r.db.Exec(t.Context(), `ALTER TABLE telemetry DROP CONSTRAINT small`)
	require.NoError(t, err)
	for range 2 {
		for n, m := range r.quarantined() {
			copy := &nats.Msg{Subject: strings.TrimPrefix(m.Subject, "quarantine.bad_payload."), Data: m.Data, Header: m.Header}
			for name := range copy.Header {
				if strings.HasPrefix(name, "Nats-") && name != "Nats-Msg-Id" {
					delete(copy.Header, name) // what a direct get adds
				}
			}
			if n == 1 {
				copy.Header.Del("Nats-Msg-Id") // so that the stream stores it twice
			}
			_, err := r.js.PublishMsg(t.Context(), copy)
			require.NoError(t, err)
		}
	}
	r.settled()
	require.Equal(t, []string{`{"big": 1}`, `{"big": 2}`, `{"small": 1}`}, r.query(`SELECT payload::text FROM telemetry ORDER BY 1`))
	s, err := r.js.Stream(t.Context(), "TELEMETRY")
	require.NoError(t, err)
	require.EqualValues(t, 6, s.CachedInfo().State.LastSeq)
}

func tablesAreAwaited(t *testing.T, r *rig) {
	r.publish(telemetry("m1", `{}`))
	i := r.ingest("database.migrate=false")
	r.eventually(func() bool {
		_, problems := i.Ready()
		return len(problems) == 1 && strings.Contains(problems[0].Advice, "ingest migrate")
	}, func() any { return i.Problems() })
	conf, err := ConnConfig(i.opts.Config)
	require.NoError(t, err)
	steps, err := Migrate(t.Context(), conf.ConnConfig)
	require.NoError(t, err)
	require.Len(t, steps, 3)
	r.settled()
	require.Equal(t, []string{"m1"}, r.query(`SELECT msg_id FROM telemetry`))
	steps, err = Migrate(t.Context(), conf.ConnConfig)
	require.NoError(t, err)
	require.Empty(t, steps)
}

func missingConsumersAreCreated(t *testing.T, r *rig) {
	require.NoError(t, r.js.DeleteConsumer(t.Context(), "TELEMETRY", "ingest-workers"))
	r.publish(telemetry("m1", `{}`))
	i := r.ingest()
	r.eventually(func() bool { ready, _ := i.Ready(); return ready && i.Tables()[0].Rows == 1 }, func() any { return i.Problems() })
	info, err := r.js.Consumer(t.Context(), "TELEMETRY", "ingest-workers")
	require.NoError(t, err)
	require.Equal(t, 30*time.Second, info.CachedInfo().Config.AckWait)
}

// missingCreatePermission checks that ingest runs if the tables exist, and reports what to
// do if they do not.
func missingCreatePermission(t *testing.T, r *rig) {
	role := fmt.Sprintf("ingest_%d", time.Now().UnixNano())
	_, err := r.db.Exec(t.Context(), `CREATE ROLE `+role+` LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC`)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, _ = r.db.Exec(context.Background(), `DROP OWNED BY `+role+`; DROP ROLE `+role)
	})
	owner := r.database
	u, err := url.Parse(owner)
	require.NoError(t, err)
	u.User = url.User(role)
	r.publish(telemetry("m1", `{}`))
	r.database = u.String()
	i := r.ingest()
	awaitProblem(r, i, "42501", "run ingest migrate as a user with permission to create tables")
	r.database = owner
	r.migrate()
	awaitProblem(r, i, "42501")
	_, err = r.db.Exec(t.Context(), `GRANT SELECT ON ingest_migrations TO `+role)
	require.NoError(t, err)
	awaitProblem(r, i, "42501", "grant the user of database.url SELECT, INSERT and UPDATE")
	_, err = r.db.Exec(t.Context(), `GRANT SELECT, INSERT, UPDATE ON telemetry, device_state, device_commands TO `+role)
	require.NoError(t, err)
	r.settled()
	awaitWell(r, i)
	require.Equal(t, []string{"m1"}, r.query(`SELECT msg_id FROM telemetry`))
}

// Rows stored in another table do not hide the failure.
func aFailingTableIsReported(t *testing.T, r *rig) {
	r.migrate()
	_, err := r.db.Exec(t.Context(), `ALTER TABLE device_state RENAME TO elsewhere`)
	require.NoError(t, err)
	i := r.ingest()
	r.publish(message{"tenant.acme.device.d1.shadow.reported", `{"version":1,"reported":{}}`, nil})
	awaitProblem(r, i, "device_state", "42P01")
	r.publish(telemetry("m1", `{}`))
	r.eventually(func() bool { return i.Tables()[0].Acknowledged == 1 }, func() any { return i.Tables() })
	ready, problems := i.Ready()
	require.False(t, ready)
	require.Len(t, problems, 1)
	_, err = r.db.Exec(t.Context(), `ALTER TABLE elsewhere RENAME TO device_state`)
	require.NoError(t, err)
	r.settled()
	awaitWell(r, i)
}

// While ingest was stopped, messages were published again after the stream's duplicate
// window; only their ids show that. Copies arrive in one batch or at two workers concurrently.
func simultaneousCopies(t *testing.T, r *rig) {
	s, err := r.js.Stream(t.Context(), "TELEMETRY")
	require.NoError(t, err)
	cfg := s.CachedInfo().Config
	cfg.Duplicates = 100 * time.Millisecond
	_, err = r.js.UpdateStream(t.Context(), cfg)
	require.NoError(t, err)
	const ids = 50
	stored := func() uint64 {
		s, err := r.js.Stream(t.Context(), "TELEMETRY")
		require.NoError(t, err)
		return s.CachedInfo().State.Msgs
	}
	for round := range uint64(3) {
		for n := range ids {
			r.eventually(func() bool {
				r.publish(telemetry(fmt.Sprint("m", n), `{}`))
				return stored() == round*ids+uint64(n)+1
			}, func() any { return stored() })
		}
	}
	// A foreign default must not matter.
	_, err = r.db.Exec(t.Context(), "ALTER DATABASE "+r.query("SELECT current_database()::text")[0]+" SET default_transaction_isolation = 'repeatable read'")
	require.NoError(t, err)
	i := r.ingest("batch.messages=10")
	r.settled()
	require.Equal(t, []string{"50|50"}, r.query(`SELECT concat_ws('|', count(*), count(DISTINCT msg_id)) FROM telemetry`))
	require.EqualValues(t, ids, i.Tables()[0].Rows)
	require.EqualValues(t, 2*ids, i.Tables()[0].Duplicates)
	require.EqualValues(t, 3*ids, i.Tables()[0].Acknowledged)
}

// aPartitionIsMissing replaces telemetry with a partitioned table whose next partition
// has not been created.
func aPartitionIsMissing(t *testing.T, r *rig) {
	r.migrate()
	_, err := r.db.Exec(t.Context(), `
		ALTER TABLE telemetry RENAME TO plain;
		CREATE TABLE telemetry (LIKE plain INCLUDING DEFAULTS, PRIMARY KEY (msg_id, time)) PARTITION BY RANGE (time);
		CREATE TABLE telemetry_2023 PARTITION OF telemetry FOR VALUES FROM ('2023-01-01') TO ('2024-01-01')`)
	require.NoError(t, err)
	r.publish(telemetry("m1", `{"ts":"2023-06-01T00:00:00Z"}`), telemetry("m2", `{"ts":"2024-06-01T00:00:00Z"}`), telemetry("m3", `{"ts":"2023-06-01T00:00:00Z"}`))
	i := r.ingest()
	r.eventually(func() bool { return len(i.Warnings()) == 1 && i.Tables()[0].Rows == 2 }, func() any { return i.Tables() })
	require.Contains(t, i.Warnings()[0].Problem, "no partition")
	require.Contains(t, i.Warnings()[0].Advice, "create the partition")
	require.Empty(t, r.quarantined())
	_, err = r.db.Exec(t.Context(), `CREATE TABLE telemetry_2024 PARTITION OF telemetry FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')`)
	require.NoError(t, err)
	r.settled()
	require.Equal(t, []string{"m1", "m2", "m3"}, r.query(`SELECT msg_id FROM telemetry ORDER BY 1`))
	require.Empty(t, r.quarantined())
}
