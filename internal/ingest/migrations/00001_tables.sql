-- +goose Up

-- One row a telemetry message. A message is known by msg_id; time is in the key
-- because a table that is partitioned by time can have no unique key without it,
-- and because it is a function of the message, so that the pair is as good.
CREATE TABLE telemetry (
    time        timestamptz NOT NULL,  -- the payload's ts, else when it was received
    tenant_id   text        NOT NULL,
    device_id   text        NOT NULL,
    msg_type    text        NOT NULL,
    payload     jsonb       NOT NULL,
    cn          text,                  -- the certificate's, where the broker attested it
    msg_id      text        NOT NULL,
    stream_seq  bigint      NOT NULL,  -- of the first delivery that was stored
    received_at timestamptz NOT NULL,  -- when the broker took it, else the stream
    PRIMARY KEY (msg_id, time)
);
CREATE INDEX telemetry_device ON telemetry (tenant_id, device_id, time DESC);

-- The newest reported state of each device.
CREATE TABLE device_state (
    tenant_id    text        NOT NULL,
    device_id    text        NOT NULL,
    reported     jsonb       NOT NULL,
    version      bigint      NOT NULL,
    last_seen_at timestamptz NOT NULL,
    received_at  timestamptz NOT NULL,  -- of the message that reported is from
    PRIMARY KEY (tenant_id, device_id)
);

-- The newest acknowledgement of each command.
CREATE TABLE device_commands (
    tenant_id       text        NOT NULL,
    device_id       text        NOT NULL,
    command_id      text        NOT NULL,
    status          text,
    acknowledgement jsonb       NOT NULL,
    acknowledged_at timestamptz NOT NULL,
    received_at     timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, device_id, command_id)
);

-- Where this database has TimescaleDB, telemetry is a hypertable. Elsewhere it is a
-- plain table whose key already holds the time, ready to be partitioned by it. The
-- function is called as text: only where the extension is does it have to be there, and
-- in the extension's own schema, which need not be in the search_path. The key is the
-- only unique index and holds the time, as a hypertable demands; an index by time alone
-- would be one more to write.
-- +goose StatementBegin
DO $$
DECLARE
    schema text;
BEGIN
    SELECT n.nspname INTO schema
    FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
    WHERE e.extname = 'timescaledb';
    IF FOUND THEN
        EXECUTE format(
            'SELECT %I.create_hypertable($1, $2, chunk_time_interval => $3, create_default_indexes => false)', schema)
            USING 'telemetry'::regclass, 'time'::name, interval '1 day';
    END IF;
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP TABLE device_commands;
DROP TABLE device_state;
DROP TABLE telemetry;
