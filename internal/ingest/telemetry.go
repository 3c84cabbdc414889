package ingest

import (
	"strconv"
	"time"

	"mqtt-nats-bridge/jetstream"
)

// copies is how long after a message a copy of it may come that has no time but the
// stream's, and so another: quarantine, from where it would be copied, keeps its
// messages for seven days. The ids alone then tell the two for one.
const copies = "8 days"

// lockClass sets the advisory lock apart from those of others in the database.
const lockClass = 0x6d71_6e62

func telemetryTable() *table {
	return &table{
		name: "telemetry",
		stage: `CREATE TEMPORARY TABLE ingest_telemetry (
			time timestamptz, tenant_id text, device_id text, msg_type text, payload jsonb, cn text,
			msg_id text, stream_seq bigint, received_at timestamptz, by_stream boolean
		) ON COMMIT DELETE ROWS`,
		// Of two copies that only their ids tell for one, stored at once, neither
		// would see the other: batches with such messages wait for each other.
		// The merge begins after the lock, and so sees what was stored before it.
		load: `COPY pg_temp.ingest_telemetry FROM STDIN (FORMAT binary);
			SELECT pg_advisory_xact_lock(` + strconv.Itoa(lockClass) + `, 'telemetry'::regclass::oid::integer)
			WHERE EXISTS (SELECT FROM pg_temp.ingest_telemetry WHERE by_stream);
			INSERT INTO telemetry (time, tenant_id, device_id, msg_type, payload, cn, msg_id, stream_seq, received_at)
			SELECT time, tenant_id, device_id, msg_type, payload, cn, msg_id, stream_seq, received_at
			FROM pg_temp.ingest_telemetry s
			WHERE NOT by_stream OR NOT EXISTS (
				SELECT FROM telemetry t WHERE t.msg_id = s.msg_id
				AND t.time > s.time - interval '` + copies + `' AND t.time < s.time + interval '` + copies + `')
			ON CONFLICT (msg_id, time) DO NOTHING`,
		row: telemetryRow,
	}
}

func telemetryRow(a address, m *jetstream.Message) (row, error) {
	id, err := identity(m)
	if err != nil {
		return row{}, err
	}
	cn, err := commonName(m)
	if err != nil {
		return row{}, err
	}
	var ts []byte
	if err := inspect(m.Data, func(key, value []byte) {
		if string(key) == "ts" {
			ts = value
		}
	}); err != nil {
		return row{}, err
	}
	at, byStream := received(m)
	when, err := measured(ts, at)
	if err != nil {
		return row{}, err
	}
	b := make([]byte, 0, 160+len(m.Data)+len(id)+len(cn)+len(a.tenant)+len(a.device)+len(a.kind))
	b = appendTuple(b, 10)
	b = appendTime(b, when)
	b = appendText(b, a.tenant)
	b = appendText(b, a.device)
	b = appendText(b, a.kind)
	b = appendJSON(b, m.Data)
	b = appendOptional(b, cn)
	b = appendText(b, id)
	b = appendInt(b, int64(m.Sequence))
	b = appendTime(b, at)
	once := byStream && !given(ts)
	b = appendBool(b, once)
	return row{message: m, key: id, tuple: b, once: once}, nil
}

// measured is the device's own time, or at where it says none.
func measured(ts []byte, at time.Time) (time.Time, error) {
	if !given(ts) {
		return at, nil
	}
	return parseTimestamp(ts)
}

// given: a member that is null says nothing.
func given(value []byte) bool { return value != nil && string(value) != "null" }
