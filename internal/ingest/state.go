package ingest

import (
	"bytes"
	"fmt"
	"strconv"

	"mqtt-nats-bridge/internal/ingest/payload"
	"mqtt-nats-bridge/jetstream/consume"
)

// stateTable returns the table of the newest states. Of the rows in a batch, only the newest of
// each device is stored, if it is newer than the row in the table. A state is newer if its version
// is higher. For equal versions the later receipt counts, and within the same millisecond the later
// position in the stream. last_seen_at follows every message.
func stateTable() *table {
	return &table{
		name: "device_state",
		stage: `CREATE TEMPORARY TABLE ingest_state (
			tenant_id text, device_id text, reported jsonb, version bigint, received_at timestamptz, stream_seq bigint
		) ON COMMIT DELETE ROWS`,
		load: `COPY pg_temp.ingest_state FROM STDIN (FORMAT binary);
			INSERT INTO device_state AS d (tenant_id, device_id, reported, version, last_seen_at, received_at, stream_seq)
			SELECT DISTINCT ON (tenant_id, device_id) tenant_id, device_id, reported, version,
				max(received_at) OVER (PARTITION BY tenant_id, device_id), received_at, stream_seq
			FROM pg_temp.ingest_state
			ORDER BY tenant_id, device_id, version DESC, received_at DESC, stream_seq DESC
			ON CONFLICT (tenant_id, device_id) DO UPDATE SET
				reported = CASE WHEN (excluded.version, excluded.received_at, excluded.stream_seq) > (d.version, d.received_at, d.stream_seq) THEN excluded.reported ELSE d.reported END,
				received_at = CASE WHEN (excluded.version, excluded.received_at, excluded.stream_seq) > (d.version, d.received_at, d.stream_seq) THEN excluded.received_at ELSE d.received_at END,
				stream_seq = CASE WHEN (excluded.version, excluded.received_at, excluded.stream_seq) > (d.version, d.received_at, d.stream_seq) THEN excluded.stream_seq ELSE d.stream_seq END,
				version = greatest(d.version, excluded.version),
				last_seen_at = greatest(d.last_seen_at, excluded.last_seen_at)
			WHERE (excluded.version, excluded.received_at, excluded.stream_seq) > (d.version, d.received_at, d.stream_seq) OR excluded.last_seen_at > d.last_seen_at`,
		missing: `SELECT FROM pg_temp.ingest_state s WHERE NOT EXISTS (
			SELECT FROM device_state d WHERE d.tenant_id = s.tenant_id AND d.device_id = s.device_id)`,
		row: stateRow,
	}
}

// stateRow accepts {"reported":{…},"version":7}, or an object that is the state itself. Without a
// version, the time in µs is the version. It is the device's own time if plausible, because a
// device that was offline sends older reports later.
func stateRow(a address, m *consume.Message) (row, error) {
	var ts, version, reported []byte
	data := payload.Clean(m.Data)
	err := payload.Read(data, payload.Member{Key: "ts", Value: &ts},
		payload.Member{Key: "version", Value: &version}, payload.Member{Key: "reported", Value: &reported})
	if err != nil {
		return row{}, err
	}
	at, _ := received(m)
	when, believed, err := payload.Measured(ts, at)
	if err != nil {
		return row{}, err
	}
	number := when.UnixMicro()
	if payload.Given(version) {
		if number, err = strconv.ParseInt(string(version), 10, 64); err != nil {
			return row{}, fmt.Errorf("version is %s: must be a whole number of 64 bits", payload.Shorten(version))
		}
	}
	switch {
	case reported == nil:
		reported = bytes.TrimSpace(data)
	case reported[0] != '{':
		return row{}, fmt.Errorf("reported is %s: must be an object", payload.Shorten(reported))
	}
	b := make([]byte, 0, 92+len(reported)+len(a.tenant)+len(a.device))
	b = appendTuple(b, 6)
	b = appendText(b, a.tenant)
	b = appendText(b, a.device)
	b = appendJSON(b, reported)
	b = appendInt(b, number)
	b = appendTime(b, at)
	b = appendInt(b, int64(m.Sequence))
	return row{
		message: m, key: a.tenant + "\x00" + a.device, tuple: b, tuples: 1,
		clockIgnored: payload.Given(ts) && !believed && !payload.Given(version),
	}, nil
}
