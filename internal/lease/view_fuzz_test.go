package lease

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Anybody who may write into the bucket may write anything: anything that is not a record counts
// for nothing, and a key says only what belongs under it.
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
				require.Empty(t, l.Owner, "no record names no holder")
			}
		}
		require.Empty(t, v.members(now.Add(v.ttl)), "a key lives as long as it is renewed")
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
