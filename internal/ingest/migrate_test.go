package ingest

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

// timescale stands in for the extension, which no package of Debian's has: its entry
// in the catalogue, and the function as TimescaleDB 2 declares it, in a schema that is
// not in the search_path. It says how it was called; that the real one does as its
// documentation says is not tested here.
const timescale = `
	CREATE SCHEMA "Time series";
	INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
	VALUES (4242424, 'timescaledb', 10, '"Time series"'::regnamespace, false, '2.17.0');
	CREATE TABLE calls (called text);
	CREATE FUNCTION "Time series".create_hypertable(
		relation regclass, time_column_name name, partitioning_column name = NULL, number_partitions integer = NULL,
		associated_schema_name name = NULL, associated_table_prefix name = NULL, chunk_time_interval anyelement = NULL::bigint,
		create_default_indexes boolean = true, if_not_exists boolean = false, partitioning_func regproc = NULL,
		migrate_data boolean = false, chunk_target_size text = NULL, chunk_sizing_func regproc = NULL, time_partitioning_func regproc = NULL)
	RETURNS TABLE (hypertable_id integer, schema_name name, table_name name, created boolean) LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.calls VALUES (concat_ws(' ',
			(SELECT relnamespace::regnamespace FROM pg_class WHERE oid = relation), relation, time_column_name, chunk_time_interval, pg_typeof(chunk_time_interval), create_default_indexes));
		RETURN NEXT;
	END $$;
	CREATE FUNCTION "Time series".create_hypertable(
		relation regclass, dimension point, create_default_indexes boolean = true, if_not_exists boolean = false, migrate_data boolean = false)
	RETURNS TABLE (hypertable_id integer, created boolean) LANGUAGE sql AS 'SELECT 1, false'`

// With the extension, in whatever schema, telemetry becomes a hypertable. Without it, as in
// all other tests, the function does not exist.
func aHypertableIsCreated(t *testing.T, r *rig) {
	_, err := r.db.Exec(t.Context(), timescale)
	require.NoError(t, err)
	_, err = r.db.Exec(t.Context(), "CREATE SCHEMA bridge")
	require.NoError(t, err)
	u, err := url.Parse(r.database)
	require.NoError(t, err)
	q := u.Query()
	q.Set("search_path", "bridge")
	u.RawQuery = q.Encode()
	r.database = u.String()
	r.migrate()
	require.Equal(t, []string{"bridge telemetry time 1 day interval f"}, r.query(`SELECT called FROM calls`))
	// What it would refuse: a unique index without the time.
	require.Equal(t, []string{"PRIMARY KEY (msg_id, \"time\")"}, r.query(`SELECT pg_get_constraintdef(oid) FROM pg_constraint
		WHERE conrelid = 'bridge.telemetry'::regclass AND contype IN ('p', 'u')`))
}
