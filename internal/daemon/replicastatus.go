package daemon

import (
	"slices"
	"time"

	"mqtt-nats-bridge/internal/config"
)

// ReplicasStatus describes this replica and the others.
type ReplicasStatus struct {
	Replica    string  `json:"replica"` // this one
	Bucket     string  `json:"bucket"`
	TTLSeconds float64 `json:"ttl_seconds"`
	Leased     int     `json:"held"`
	Taken      uint64  `json:"taken"`
	HandedOver uint64  `json:"handed_over"`
	Lost       uint64  `json:"lost"`
	// All lists the replicas seen within the TTL.
	All []ReplicaStatus `json:"all"`
}

// ReplicaStatus describes one replica.
type ReplicaStatus struct {
	ID         string    `json:"id"`
	Host       string    `json:"host"`
	Version    string    `json:"version"`
	Started    time.Time `json:"started"`
	Connected  bool      `json:"connected"` // to the broker, with at least one lane
	Leaving    bool      `json:"leaving,omitempty"`
	Partitions string    `json:"partitions"`
}

// LeaseStatus describes the lease of a lane's partition.
type LeaseStatus struct {
	Owner string `json:"holder"` // id of the replica; empty: none
	Host  string `json:"host,omitempty"`
	// Here reports whether this replica is the owner.
	Here  bool      `json:"here"`
	Since time.Time `json:"since"` // when this owner acquired it, or when it was released
	// Leaving reports whether the lane is draining because the partition moves to another replica.
	Leaving bool `json:"leaving,omitempty"`
}

// status returns the state of the replicas and the lease of each lane.
func (r *replicas) status() (*ReplicasStatus, []LeaseStatus) {
	k := r.leases.Status()
	s := &ReplicasStatus{
		Replica: k.Replica.ID, Bucket: r.shared.config.Lanes.Bucket, TTLSeconds: k.TTL.Seconds(),
		Leased: k.Leased(), Taken: k.Acquired, HandedOver: k.Released, Lost: k.Lost, All: []ReplicaStatus{},
	}
	leased := map[string]*config.Partitions{}
	var leases []LeaseStatus
	for _, p := range k.Partitions {
		leases = append(leases, LeaseStatus{
			Owner: p.Owner, Host: p.Host, Here: p.Owner == k.Replica.ID, Since: p.Since.UTC(), Leaving: p.Leaving,
		})
		if leased[p.Owner] == nil {
			leased[p.Owner] = &config.Partitions{}
		}
		leased[p.Owner].List = append(leased[p.Owner].List, p.Partition)
	}
	for _, other := range k.Replicas {
		line := ReplicaStatus{ID: other.ID, Host: other.Host, Version: other.Version, Started: other.Started, Connected: other.Connected, Leaving: other.Leaving}
		if p := leased[other.ID]; p != nil {
			line.Partitions = p.String()
		}
		s.All = append(s.All, line)
	}
	slices.SortFunc(s.All, func(a, b ReplicaStatus) int { return a.Started.Compare(b.Started) })
	return s, leases
}
