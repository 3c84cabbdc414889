package lease

import "slices"

// Assign returns which replica should lease each partition, given the present owners.
// Every replica comes to the same answer from the same facts, so there is no leader. There is no answer without replicas.
//
// The shares differ by one at most. A replica that comes takes from those that
// have too many, one that goes leaves what it has to those that have too few, and
// nothing else moves: a replica's quota depends on its place in the order of ids
// alone, which makes it never grow by an arrival and never shrink by a departure.
// (Who held most would be the more obvious order for the odd partitions, and it
// changes while partitions are moving.)
func Assign(partitions, replicas []string, owners map[string]string) map[string]string {
	if len(replicas) == 0 {
		return nil
	}
	replicas = slices.Sorted(slices.Values(replicas))
	left := make(map[string]int, len(replicas)) // of each quota
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
	next := 0
	for _, p := range rest {
		for left[replicas[next]] == 0 {
			next++
		}
		left[replicas[next]]--
		share[p] = replicas[next]
	}
	return share
}
