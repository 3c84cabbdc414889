package lease

import (
	"encoding/json"
	"strings"
	"time"
)

// Replica is a bridge that takes part, as its key says. The key lives as long as
// it is renewed.
type Replica struct {
	ID      string    `json:"id"` // of this process, never used twice
	Host    string    `json:"host"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	// Broker has the addresses of the broker that its lanes connect to, separated by commas. Empty: an earlier version,
	// which did not write it.
	Broker string `json:"broker,omitempty"`
	// Connected: it reached the broker when it wrote this, by one of its lanes at
	// least or, without any, by a probe.
	Connected bool `json:"connected,omitempty"`
	// Standby: without the broker it has left its share to the others, and wants none until
	// it has had the broker again for a while. It says so itself: of the others one may
	// have come since, or have lost the bucket and forgotten what it had seen.
	Standby bool `json:"out,omitempty"`
	// Leaving: it is stopping, and is to be given nothing more.
	Leaving bool `json:"leaving,omitempty"`
}

// Record is what a partition's key says.
type Record struct {
	// Owner is a replica's id; empty: the last one has left, and its client id
	// may be used immediately.
	Owner string    `json:"holder"`
	Host  string    `json:"host,omitempty"`
	Since time.Time `json:"since"`
	// Session: the broker has a session for the partition. An owner that finds
	// none has lost messages.
	Session bool `json:"session,omitempty"`
}

// Keys are stem.pX for partitions and stem.replica.ID for replicas, the stem that
// of the client ids.
const replicaKey = "replica."

func partitionKey(partition string) string { return "p" + partition }

// partitionOf returns which partition a key is of.
func partitionOf(key string) (string, bool) {
	p, ok := strings.CutPrefix(key, "p")
	return p, ok && len(p) == 1
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("encode lease: " + err.Error()) // strings, times and booleans
	}
	return b
}

func decode(b []byte, v any) bool { return json.Unmarshal(b, v) == nil }
