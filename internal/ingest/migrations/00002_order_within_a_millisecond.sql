-- +goose Up

-- Of two messages of the same version that the broker took within one millisecond, the
-- one that stands later in the stream is the newer.
ALTER TABLE device_state ADD COLUMN stream_seq bigint NOT NULL DEFAULT 0;
ALTER TABLE device_commands ADD COLUMN stream_seq bigint NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE device_commands DROP COLUMN stream_seq;
ALTER TABLE device_state DROP COLUMN stream_seq;
