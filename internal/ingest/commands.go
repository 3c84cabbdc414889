package ingest

import (
	"encoding/json"
	"errors"
	"fmt"

	"mqtt-nats-bridge/internal/ingest/payload"
	"mqtt-nats-bridge/jetstream/consume"
)

// commandTable returns the table with the newest acknowledgement of each command: first "accepted",
// later "done". Of two within the same millisecond, the later one in the stream wins.
func commandTable() *table {
	return &table{
		name: "device_commands",
		stage: `CREATE TEMPORARY TABLE ingest_commands (
			tenant_id text, device_id text, command_id text, status text, acknowledgement jsonb,
			acknowledged_at timestamptz, received_at timestamptz, stream_seq bigint
		) ON COMMIT DELETE ROWS`,
		load: `COPY pg_temp.ingest_commands FROM STDIN (FORMAT binary);
			INSERT INTO device_commands AS c (tenant_id, device_id, command_id, status, acknowledgement, acknowledged_at, received_at, stream_seq)
			SELECT DISTINCT ON (tenant_id, device_id, command_id)
				tenant_id, device_id, command_id, status, acknowledgement, acknowledged_at, received_at, stream_seq
			FROM pg_temp.ingest_commands
			ORDER BY tenant_id, device_id, command_id, acknowledged_at DESC, received_at DESC, stream_seq DESC
			ON CONFLICT (tenant_id, device_id, command_id) DO UPDATE SET
				status = excluded.status, acknowledgement = excluded.acknowledgement,
				acknowledged_at = excluded.acknowledged_at, received_at = excluded.received_at,
				stream_seq = excluded.stream_seq
			WHERE (excluded.acknowledged_at, excluded.received_at, excluded.stream_seq) > (c.acknowledged_at, c.received_at, c.stream_seq)`,
		missing: `SELECT FROM pg_temp.ingest_commands s WHERE NOT EXISTS (
			SELECT FROM device_commands c
			WHERE c.tenant_id = s.tenant_id AND c.device_id = s.device_id AND c.command_id = s.command_id)`,
		row: commandRow,
	}
}

// commandRow accepts {"command_id":"…","status":"…"}. id is an alternative to command_id.
func commandRow(a address, m *consume.Message) (row, error) {
	var ts, command, id, status []byte
	data := payload.Clean(m.Data)
	err := payload.Read(data,
		payload.Member{Key: "ts", Value: &ts}, payload.Member{Key: "command_id", Value: &command},
		payload.Member{Key: "id", Value: &id}, payload.Member{Key: "status", Value: &status})
	if err != nil {
		return row{}, err
	}
	at, _ := received(m)
	when, believed, err := payload.Measured(ts, at)
	if err != nil {
		return row{}, err
	}
	if !payload.Given(command) {
		command = id
	}
	name, err := scalarText("command_id", command)
	if err != nil {
		return row{}, err
	}
	if name == "" || len(name) > maxID {
		return row{}, fmt.Errorf("the acknowledgement names no command: command_id must be a text of 1 to %d bytes or a number", maxID)
	}
	state, err := scalarText("status", status)
	if err != nil {
		return row{}, err
	}
	b := make([]byte, 0, 132+len(data)+len(a.tenant)+len(a.device)+len(name)+len(state))
	b = appendTuple(b, 8)
	b = appendText(b, a.tenant)
	b = appendText(b, a.device)
	b = appendText(b, name)
	b = appendOptional(b, state)
	b = appendJSON(b, data)
	b = appendTime(b, when)
	b = appendTime(b, at)
	b = appendInt(b, int64(m.Sequence))
	return row{
		message: m, key: a.tenant + "\x00" + a.device + "\x00" + name, tuple: b, tuples: 1,
		clockIgnored: payload.Given(ts) && !believed,
	}, nil
}

// scalarText returns a JSON string or number as text; empty if there is none.
func scalarText(name string, value []byte) (string, error) {
	switch {
	case !payload.Given(value):
		return "", nil
	case value[0] == '"':
		var text string
		if err := json.Unmarshal(value, &text); err != nil {
			return "", errors.New(name + " cannot be read")
		}
		return text, nil
	case value[0] == '-' || value[0] >= '0' && value[0] <= '9':
		return string(value), nil
	}
	return "", fmt.Errorf("%s is %s: must be a text or a number", name, payload.Shorten(value))
}
