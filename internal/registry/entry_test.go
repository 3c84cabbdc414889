package registry

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseEntry(t *testing.T) {
	t.Parallel()
	t.Run("status and expiry are read", testStatusAndExpiryAreRead)
	t.Run("revocation counts despite other errors", testRevocationCountsDespiteOtherErrors)
}

func testStatusAndExpiryAreRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Entry{
		`{"status":"ACTIVE"}`:                                           {"ACTIVE", 0},
		`{"status":" active ","not_after":null}`:                        {"active", 0},
		`{"status":"ACTIVE","not_after":"2027-01-31T00:00:00Z"}`:        {"ACTIVE", 1801353600000},
		`{"status":"ACTIVE","not_after":"2027-01-31T02:00:00.5+02:00"}`: {"ACTIVE", 1801353600500},
		`{"status":"REVOKED","serial":17}`:                              {"REVOKED", 0},
	} {
		got, err := ParseEntry([]byte(text))
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
}

// An entry that revokes is applied even if it has other errors.
func testRevocationCountsDespiteOtherErrors(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{"status":"REVOKED","not_after":"tomorrow"}`, `{"status":"REVOKED","not_after":7}`} {
		got, err := ParseEntry([]byte(text))
		require.Error(t, err)
		require.Equal(t, "REVOKED", got.Status)
	}
	for text, want := range map[string]string{
		``:                "is not a JSON object",
		`"ACTIVE"`:        "is not a JSON object",
		`{"status":true}`: "has no status",
		`{"status":""}`:   "has no status",
		`{}`:              "has no status",
		`{"status":"ACTIVE","not_after":"never"}`:                "not_after is never; write a time like",
		`{"status":"ACTIVE","not_after":17}`:                     "not_after is 17",
		`{"status":"ACTIVE","not_after":"1969-01-01T00:00:00Z"}`: "write a time like",
	} {
		got, err := ParseEntry([]byte(text))
		require.ErrorContains(t, err, want, text)
		require.Equal(t, Entry{}, got, text)
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	for _, name := range [][2]string{{"acme", "dev-1"}, {"acme.eu", "dev 1"}, {"größe", "a=b"}} {
		tenant, device, err := ParseKey(Key(name[0], name[1]))
		require.NoError(t, err)
		require.Equal(t, name, [2]string{tenant, device})
	}
	require.Equal(t, "acme=2Eeu.dev=201", Key("acme.eu", "dev 1"))
	for _, key := range []string{"", "acme", "acme.", "a.b.c", "a/b", "=00.dev"} {
		_, _, err := ParseKey(key)
		require.Error(t, err, key)
	}
}

func FuzzEntry(f *testing.F) {
	f.Add("acme.dev-1", []byte(`{"status":"ACTIVE","not_after":"2027-01-31T00:00:00Z"}`))
	f.Add("a=2E.b", []byte(`{"status":"REVOKED"}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		if tenant, device, err := ParseKey(key); err == nil {
			require.Equal(t, key, Key(tenant, device))
		}
		if e, err := ParseEntry(value); err == nil {
			require.NotEmpty(t, e.Status)
			require.GreaterOrEqual(t, e.NotAfter, int64(0))
		}
	})
}
