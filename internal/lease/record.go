package lease

import (
	"encoding/json"
	"strings"
	"time"
)

// Replica is the value of a replica's key. The key exists as long as it is renewed.
type Replica struct {
	ID      string    `json:"id"` // unique per process
	Host    string    `json:"host"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	// Broker contains the addresses of the lanes' broker, comma-separated. Empty: an earlier
	// version, which did not write it.
	Broker string `json:"broker,omitempty"`
	// Connected means that the replica reached the broker when it wrote the record, with at least
	// one lane or, without lanes, with a probe.
	Connected bool `json:"connected,omitempty"`
	// Standby means that the replica could not reach the broker and gets no share until it has
	// reached the broker again for a while. The replica records this itself: another replica may be
	// new, or may have lost its observations with the bucket.
	Standby bool `json:"out,omitempty"`
	// Leaving means that the replica is stopping and must get no more partitions.
	Leaving bool `json:"leaving,omitempty"`
}

// Record is the value of a partition's key.
type Record struct {
	// Owner is a replica's id; empty: the last owner has disconnected, and the client id may be
	// used immediately.
	Owner string    `json:"holder"`
	Host  string    `json:"host,omitempty"`
	Since time.Time `json:"since"`
	// Session means that the broker has a session for the partition. If the next owner finds none,
	// messages were lost.
	Session bool `json:"session,omitempty"`
}

// Keys are stem.pX for partitions and stem.replica.ID for replicas, with the stem of the client
// ids.
const replicaKey = "replica."

func partitionKey(partition string) string { return "p" + partition }

// partitionOf returns the partition of a key.
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
