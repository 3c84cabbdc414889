package limit

import (
	"bytes"
	"slices"
	"sync"
	"unicode/utf8"
)

// OtherTenants is the name under which [Budgets.ByTenant] sums up tenants that have none of
// their own.
const OtherTenants = "other"

// maxTenantName is the longest name, in bytes, that a tenant is listed under.
const maxTenantName = 128

// TenantCounts is what the devices of a tenant have sent, including those that the table has
// forgotten.
type TenantCounts struct {
	Tenant                     string
	Received, Stored, Rejected uint64
}

func (c *TenantCounts) add(s *deviceShard, e *device) {
	c.Received += e.received
	c.Stored += e.stored
	if e.rejects != 0 {
		for _, n := range s.rejects[e.rejects-1].by {
			c.Rejected += n
		}
	}
}

// tenantSums sums a table of devices up by tenant. A message costs nothing for it: the table is
// read when the sums are asked for, and a device is added here when the table forgets it.
//
// The first tenants seen have a name, for as long as the process runs; all others share one
// sum. So their number is bounded, and no message moves from one sum to another.
type tenantSums struct {
	max int

	reading sync.Mutex     // one reading at a time; taken before the lock of a shard
	shown   []TenantCounts // of the latest reading

	mu    sync.Mutex // taken while the lock of a shard is held
	index map[string]int
	past  []TenantCounts // of forgotten devices; the first is OtherTenants
}

func newTenantSums(limit int) *tenantSums {
	return &tenantSums{max: limit, index: map[string]int{}, past: []TenantCounts{{Tenant: OtherTenants}}}
}

// of finds the sum of the device named tenant/device. t.mu is held.
func (t *tenantSums) of(name []byte) int {
	tenant, _, named := bytes.Cut(name, []byte{'/'})
	if i, ok := t.index[string(tenant)]; ok {
		return i
	}
	if !named || len(t.index) >= t.max || len(tenant) == 0 || len(tenant) > maxTenantName || !utf8.Valid(tenant) || string(tenant) == OtherTenants {
		return 0
	}
	i := len(t.past)
	t.index[string(tenant)] = i
	t.past = append(t.past, TenantCounts{Tenant: string(tenant)})
	return i
}

// forget keeps what entry n of s has counted. The lock of s is held.
func (t *tenantSums) forget(s *deviceShard, n uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.past[t.of(s.nameBytes(n))].add(s, s.at(n))
}

// ByTenant sums the counts of all devices by tenant, [OtherTenants] first; nil if the table
// was created without Tenants. No sum ever decreases. It reads the whole table.
func (d *Budgets) ByTenant() []TenantCounts {
	t := d.tenants
	if t == nil {
		return nil
	}
	t.reading.Lock()
	defer t.reading.Unlock()
	t.mu.Lock()
	sums := slices.Clone(t.past)
	t.mu.Unlock()
	for i := range d.shards {
		sums = d.shards[i].sumTenants(t, sums)
	}
	// A device that was forgotten during the reading may be missing in it. It is in the next.
	for i, before := range t.shown {
		sums[i].Received = max(sums[i].Received, before.Received)
		sums[i].Stored = max(sums[i].Stored, before.Stored)
		sums[i].Rejected = max(sums[i].Rejected, before.Rejected)
	}
	t.shown = sums
	return slices.Clone(sums)
}

// tenantBatch is how many devices are read under the lock of their shard, so that a message
// waits for some 30 µs at most.
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
			sums = append(sums, TenantCounts{Tenant: t.past[len(sums)].Tenant})
		}
		sums[i].add(s, e)
	}
	return sums, end < s.entries
}
