package limit

import (
	"sync"
	"sync/atomic"
)

// kinds stores the sets of subjects under which devices publish, without the names of tenant and
// device: telemetry and shadow/reported are two kinds. Devices of a fleet use the same few kinds.
// So each set is stored once, and the entries of devices contain its number.
//
// A set is another set plus one kind, in the order of first use. Devices that add the same kinds in
// another order end up with the same number.
type kinds struct {
	sets  atomic.Pointer[[]kindSet] // [0] is the empty one
	found [1 << foundBits]atomic.Uint64

	mu   sync.Mutex
	byID map[uint64]uint32
}

type kindSet struct {
	kind   uint64
	id     uint64 // sum of its kinds, which are hashes with a secret seed
	parent uint32
	size   uint32
}

// maxKindSets bounds the table to about 64 MB. Only thousands of devices that invent kinds can fill
// it. Once it is full, no further kinds are counted.
const maxKindSets = 1 << 20

const foundBits = 13

// with returns the number of the set extended by that kind, and whether it has at most limit kinds;
// 0: no limit.
func (k *kinds) with(set uint32, kind uint64, limit int) (uint32, bool) {
	all := k.sets.Load()
	if limit <= 0 || all != nil && k.contains(*all, set, kind) {
		return set, true
	}
	if all != nil && int((*all)[set].size) >= limit {
		return set, false
	}
	return k.add(set, kind), true
}

func (k *kinds) contains(sets []kindSet, set uint32, kind uint64) bool {
	// In large sets, kinds found before are cached.
	known := kind + uint64(set)*0x9e3779b97f4a7c15
	place := &k.found[known>>(64-foundBits)]
	large := sets[set].size > 16
	if large && place.Load() == known {
		return true
	}
	for n := set; n != 0; n = sets[n].parent {
		if sets[n].kind == kind {
			if large {
				place.Store(known)
			}
			return true
		}
	}
	return false
}

func (k *kinds) add(set uint32, kind uint64) uint32 {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := k.sets.Load()
	if all == nil {
		all, k.byID = &[]kindSet{{}}, map[uint64]uint32{}
	}
	parent := (*all)[set]
	id := parent.id + kind
	if n, ok := k.byID[id]; ok {
		return n
	}
	if len(*all) >= maxKindSets {
		return set
	}
	n := uint32(len(*all))
	sets := append(*all, kindSet{kind: kind, id: id, parent: set, size: parent.size + 1})
	k.byID[id] = n
	k.sets.Store(&sets) // readers of the old slice do not read beyond its end
	return n
}
