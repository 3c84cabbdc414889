package ingest

import (
	"strconv"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/ingest/payload"
	"mqtt-nats-bridge/jetstream/consume"
)

// copies is the maximum time between a message and its copy if both have only the stream's time,
// which then differs. Copies come from quarantine, which keeps messages for seven days. Such copies
// are recognised by their ids alone.
const copies = "8 days"

// lockClass distinguishes the advisory lock from those of other programs.
const lockClass = 0x6d71_6e62

func telemetryTable(mode config.PayloadMode) *table {
	return &table{
		name: "telemetry",
		stage: `CREATE TEMPORARY TABLE ingest_telemetry (
			time timestamptz, tenant_id text, device_id text, msg_type text, payload jsonb, cn text,
			msg_id text, stream_seq bigint, received_at timestamptz, by_stream boolean
		) ON COMMIT DELETE ROWS`,
		// If two copies that are recognised only by their ids are stored concurrently, neither
		// transaction sees the other. So batches with such messages are serialized by a lock. The
		// merge begins after the lock and sees all rows stored before it.
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
		missing: `SELECT FROM pg_temp.ingest_telemetry s WHERE NOT EXISTS (
			SELECT FROM telemetry t WHERE t.msg_id = s.msg_id AND (t.time = s.time OR s.by_stream
				AND t.time > s.time - interval '` + copies + `' AND t.time < s.time + interval '` + copies + `'))`,
		row: func(a address, m *consume.Message) (row, error) { return telemetryRow(a, m, mode) },
	}
}

// telemetryRow converts a message to one row, or an array in mode split to one row per element.
func telemetryRow(a address, m *consume.Message, mode config.PayloadMode) (row, error) {
	id, err := identity(m)
	if err != nil {
		return row{}, err
	}
	cn, err := commonName(m)
	if err != nil {
		return row{}, err
	}
	objects, split, err := payload.Elements(m.Data, mode)
	if err != nil {
		return row{}, err
	}
	at, byStream := received(m)
	r := row{message: m, key: id, tuples: len(objects)}
	b := make([]byte, 0, 160+len(m.Data)+len(id)+len(cn)+len(a.tenant)+len(a.device)+len(a.kind))
	for i, object := range objects {
		var ts []byte
		if err := payload.Read(object, payload.Member{Key: "ts", Value: &ts}); err != nil {
			return row{}, err
		}
		when, believed, err := payload.Measured(ts, at)
		if err != nil {
			return row{}, err
		}
		r.clockIgnored = r.clockIgnored || payload.Given(ts) && !believed
		once := byStream && !believed
		r.once = r.once || once
		b = appendTuple(b, 10)
		b = appendTime(b, when)
		b = appendText(b, a.tenant)
		b = appendText(b, a.device)
		b = appendText(b, a.kind)
		b = appendJSON(b, object)
		b = appendOptional(b, cn)
		if split {
			b = appendText(b, id+"/"+strconv.Itoa(i))
		} else {
			b = appendText(b, id)
		}
		b = appendInt(b, int64(m.Sequence))
		b = appendTime(b, at)
		b = appendBool(b, once)
	}
	r.tuple = b
	return r, nil
}
