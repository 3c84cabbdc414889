package limit

import (
	"bytes"
	"slices"
	"sync"
	"unicode/utf8"
)

// OtherTenants is the name under which [Budgets.ByTenant] sums tenants that are not listed by name.
const OtherTenants = "other"

// maxTenantName is the maximum length in bytes of a tenant name that is listed.
const maxTenantName = 128

// TenantCounts are the counts of a tenant's devices, including those already evicted from the
// table.
type TenantCounts struct {
	Tenant                     string
	Received, Stored, Rejected uint64
}

func (c *TenantCounts) add(s *deviceShard, e *device) {
	c.Received += e.received
	c.Stored += e.stored
	c.Rejected += s.rejected(e)
}

// tenantSums sums a table of devices by tenant, at no cost per message: the table is read on
// request, and a device's counts are added here when it is evicted.
//
// The first tenants seen are listed by name for the life of the process; all others share one sum.
// So the number of sums is bounded, and no message moves from one sum to another.
type tenantSums struct {
	max int

	reading  sync.Mutex     // one reading at a time; taken before the lock of a shard
	lastSums []TenantCounts // result of the latest reading

	mu      sync.Mutex // may be taken under the lock of a shard
	index   map[string]int
	evicted []TenantCounts // counts of evicted devices; the first is OtherTenants
}

func newTenantSums(limit int) *tenantSums {
	return &tenantSums{max: limit, index: map[string]int{}, evicted: []TenantCounts{{Tenant: OtherTenants}}}
}

// of finds the sum of the device named tenant/device. The caller holds t.mu.
func (t *tenantSums) of(name []byte) int {
	tenant, _, named := bytes.Cut(name, []byte{'/'})
	if i, ok := t.index[string(tenant)]; ok {
		return i
	}
	if !named || len(t.index) >= t.max || len(tenant) == 0 || len(tenant) > maxTenantName || !utf8.Valid(tenant) || string(tenant) == OtherTenants {
		return 0
	}
	i := len(t.evicted)
	t.index[string(tenant)] = i
	t.evicted = append(t.evicted, TenantCounts{Tenant: string(tenant)})
	return i
}

// forget keeps the counts of entry n of s. The caller holds the lock of s.
func (t *tenantSums) forget(s *deviceShard, n uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.evicted[t.of(s.nameBytes(n))].add(s, s.at(n))
}

// ByTenant sums the counts of all devices by tenant, [OtherTenants] first. It returns nil if the
// table was created without Tenants. No sum ever decreases. It reads the whole table.
func (d *Budgets) ByTenant() []TenantCounts {
	t := d.tenants
	if t == nil {
		return nil
	}
	t.reading.Lock()
	defer t.reading.Unlock()
	t.mu.Lock()
	sums := slices.Clone(t.evicted)
	t.mu.Unlock()
	for i := range d.shards {
		sums = d.shards[i].sumTenants(t, sums)
	}
	// A device evicted during the reading may be missing from it. The next reading includes it.
	for i, before := range t.lastSums {
		sums[i].Received = max(sums[i].Received, before.Received)
		sums[i].Stored = max(sums[i].Stored, before.Stored)
		sums[i].Rejected = max(sums[i].Rejected, before.Rejected)
	}
	t.lastSums = sums
	return slices.Clone(sums)
}

// tenantBatch is the number of devices read per lock of their shard, so that a message waits for
// about 30 µs at most.
const tenantBatch = 512

func (s *deviceShard) sumTenants(t *tenantSums, sums []TenantCounts) []TenantCounts {
	for from, more := uint32(0), true; more; from += tenantBatch {
		sums, more = s.sumBatch(t, sums, from)
	}
	return sums
}

func (s *deviceShard) sumBatch(t *tenantSums, sums []TenantCounts, from uint32) (_ []TenantCounts, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	end := min(from+tenantBatch, s.entries)
	for n := from; n < end; n++ {
		e := s.at(n)
		if !e.used {
			continue
		}
		i := t.of(s.nameBytes(n))
		for len(sums) <= i {
			sums = append(sums, TenantCounts{Tenant: t.evicted[len(sums)].Tenant})
		}
		sums[i].add(s, e)
	}
	return sums, end < s.entries
}
