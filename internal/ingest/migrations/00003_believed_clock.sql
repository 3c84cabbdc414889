-- +goose Up

-- Reports without a version have the time in µs as one. A report whose clock was ahead is
-- newer than every later one until that time: it gets the time at which it was received, as
-- such reports do from this version on. A device's own version is a small number.
UPDATE device_state SET version = (extract(epoch FROM received_at) * 1000000)::bigint
WHERE version > ((extract(epoch FROM now()) + 300) * 1000000)::bigint;
UPDATE device_commands SET acknowledged_at = received_at
WHERE acknowledged_at > now() + interval '5 minutes';

-- +goose Down
SELECT 1;
