package lease

import "slices"

// Assign returns which replica should lease each partition, given the present owners. Every replica
// computes the same answer from the same input, so there is no leader. Without replicas it returns
// nil.
//
// Shares differ by at most one. A new replica takes partitions from those above their quota, a
// departing one leaves its partitions to those below, and no others move. A replica's quota depends
// only on its position in the order of ids, so it never grows by an arrival and never shrinks by a
// departure. (Ordering by the number of owned partitions would be more obvious, but that number
// changes while partitions move.)
func Assign(partitions, replicas []string, owners map[string]string) map[string]string {
	if len(replicas) == 0 {
		return nil
	}
	replicas = slices.Sorted(slices.Values(replicas))
	left := make(map[string]int, len(replicas)) // remaining quota
	for i, id := range replicas {
		left[id] = len(partitions) / len(replicas)
		if i < len(partitions)%len(replicas) {
			left[id]++
		}
	}
	share := make(map[string]string, len(partitions))
	var rest []string
	for _, p := range partitions {
		if id := owners[p]; left[id] > 0 {
			left[id]--
			share[p] = id
			continue
		}
		rest = append(rest, p)
	}
	for _, p := range rest {
		id := replicas[slices.IndexFunc(replicas, func(id string) bool { return left[id] > 0 })]
		left[id]--
		share[p] = id
	}
	return share
}
