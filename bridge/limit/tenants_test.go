package limit

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/verdict"
)

// byTenant returns the sums of a table by name.
func byTenant(d *Budgets) map[string]TenantCounts {
	all := map[string]TenantCounts{}
	for _, c := range d.ByTenant() {
		all[c.Tenant] = c
	}
	return all
}

func TestTenantCounts(t *testing.T) {
	t.Parallel()
	t.Run("devices are summed per tenant", testDevicesAreSummedPerTenant)
	t.Run("tenants are bounded", testTenantsAreBounded)
	t.Run("sums never decrease", testSumsNeverDecrease)
}

func testDevicesAreSummedPerTenant(t *testing.T) {
	t.Parallel()
	d := NewBudgets(BudgetOptions{Tenants: 10, Idle: time.Hour})
	for i := range 1000 {
		r := d.Receive(fmt.Appendf(nil, "acme/dev-%d", i), noon)
		switch {
		case i < 10:
			d.Reject(r, verdict.BadTopic, Meter{}, noon, 0)
		case i < 900:
			d.Stored(r)
		}
	}
	for _, name := range []string{"", "unattested", "/dev", "other/dev", "\xff/dev", strings.Repeat("x", maxTenantName+1) + "/dev", "a common name without a slash"} {
		d.Receive([]byte(name), noon)
	}
	want := map[string]TenantCounts{"other": {"other", 7, 0, 0}, "acme": {"acme", 1000, 890, 10}}
	require.Equal(t, want, byTenant(d))
	d.Receive([]byte("globex/dev"), noon+int64(2*time.Hour))
	for range 1000 { // idle entries are evicted, but their counts stay
		d.Receive([]byte("globex/"+strings.Repeat("y", int(d.Evicted()%50))), noon+int64(2*time.Hour))
	}
	got := byTenant(d)
	require.Equal(t, uint64(1001), got["globex"].Received)
	delete(got, "globex")
	require.Equal(t, want, got)

	require.Nil(t, NewBudgets(BudgetOptions{}).ByTenant())
}

func testTenantsAreBounded(t *testing.T) {
	t.Parallel()
	d := NewBudgets(BudgetOptions{Tenants: 3})
	for _, name := range []string{"a/1", "b/1", "c/1"} {
		d.Receive([]byte(name), noon)
		d.ByTenant()
	}
	for i := range 100 {
		d.Receive(fmt.Appendf(nil, "made-up-%d/1", i), noon)
	}
	d.Receive([]byte("b/2"), noon)
	require.Equal(t, map[string]TenantCounts{
		"a": {"a", 1, 0, 0}, "b": {"b", 2, 0, 0}, "c": {"c", 1, 0, 0}, "other": {"other", 100, 0, 0},
	}, byTenant(d), "the first ones seen keep their names")
	require.Len(t, d.tenants.index, 3)
}

// Sums never decrease, even if entries are evicted while they are read.
func testSumsNeverDecrease(t *testing.T) {
	t.Parallel()
	d := NewBudgets(BudgetOptions{Max: 640, Tenants: 4})
	var senders sync.WaitGroup
	const each = 20_000
	for sender := range 3 {
		senders.Go(func() {
			for i := range each {
				r := d.Receive(fmt.Appendf(nil, "t%d/%d", i%6, sender*each+i/3), noon)
				if i%2 == 0 {
					d.Stored(r)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { senders.Wait(); close(done) }()
	before := byTenant(d)
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		default:
		}
		now := byTenant(d)
		for tenant, was := range before {
			require.GreaterOrEqual(t, now[tenant].Received, was.Received, tenant)
			require.GreaterOrEqual(t, now[tenant].Stored, was.Stored, tenant)
		}
		before = now
	}
	require.NotZero(t, d.Evicted())
	require.Len(t, before, 5)
	var received uint64
	for _, c := range before {
		received += c.Received
	}
	require.EqualValues(t, 3*each, received)
}

func BenchmarkByTenant(b *testing.B) {
	d := NewBudgets(BudgetOptions{Tenants: 100})
	for i := range 1_000_000 {
		d.Receive(fmt.Appendf(nil, "tenant-%d/device-%d", i%100, i), noon)
	}
	for b.Loop() {
		d.ByTenant()
	}
}
