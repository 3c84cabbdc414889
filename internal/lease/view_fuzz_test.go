package lease

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A user with write permission can write anything into the bucket: a value that is not a
// record is ignored, and so is a record under another's key.
func FuzzView(f *testing.F) {
	for _, seed := range []struct {
		key   string
		value any
	}{
		{"pa", Record{Owner: "abc", Host: "h", Since: time.Unix(1, 0).UTC(), Session: true}},
		{"p0", Record{}},
		{"replica.abc", Replica{ID: "abc", Host: "h", Version: "1", Started: time.Unix(1, 0).UTC()}},
		{"replica.abc", Replica{ID: "other", Leaving: true}},
	} {
		f.Add(seed.key, encode(seed.value), uint64(7))
	}
	f.Add("pa", []byte(`{"holder":"x","holder":7}`), uint64(0))
	f.Add("p", []byte(nil), uint64(1))
	f.Add("replica.", []byte(`{"id":""}`), uint64(1))
	f.Fuzz(func(t *testing.T, key string, value []byte, revision uint64) {
		now := time.Unix(1_000_000, 0)
		v := newView(10*time.Second, now, map[string]seenReplica{})
		v.apply(Entry{Key: key, Value: value, Revision: revision}, now)
		for _, id := range v.members(now) {
			require.NotEmpty(t, id)
			require.Equal(t, replicaKey+id, key)
			var r Replica
			require.NoError(t, json.Unmarshal(value, &r))
			require.Equal(t, id, r.ID)
			require.False(t, r.Leaving)
		}
		for p := range v.leases {
			require.Equal(t, partitionKey(p), key)
			require.Len(t, p, 1)
			l, released := v.lease(p, now)
			require.Equal(t, released, l.revision > 0 && l.Owner == "")
			var r Record
			if json.Unmarshal(value, &r) != nil {
				require.Empty(t, l.Owner, "a value that is not a record has no owner")
			}
		}
		require.Empty(t, v.members(now.Add(v.ttl)), "a key that is not renewed expires")
		for p := range v.leases {
			l, released := v.lease(p, now.Add(v.ttl))
			require.Empty(t, l.Owner)
			require.False(t, released)
		}
		if next := v.nextExpiry(now); !next.IsZero() {
			require.Equal(t, now.Add(v.ttl), next)
		}
	})
}
