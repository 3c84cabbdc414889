package bridge

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"mqtt-nats-bridge/bridge/verdict"
)

// registered gives a lane on attested topics a registry.
func registered(t tester) (*Certificates, []func(*LaneOptions)) {
	c := NewCertificates()
	return c, []func(*LaneOptions){attested(t), func(o *LaneOptions) { o.Rules.Registry = c }}
}

func TestTheRegistrysWordIsAVerdict(t *testing.T) {
	t.Parallel()
	c, options := registered(t)
	table := c.Table()
	table.Put("acme", "good", "ACTIVE", 0)
	table.Put("acme", "lower", "active", noon/1e6+1)
	table.Put("acme", "revoked", "REVOKED", 0)
	table.Put("acme", "suspended", "SUSPENDED", noon/1e6+1e9)
	table.Put("acme", "ended", "ACTIVE", noon/1e6)
	table.Put("acme", "both", "REVOKED", 1)
	table.Put("acme", "deleted", "ACTIVE", 0)
	table.Delete("acme", "deleted")
	for name, want := range map[string]struct {
		reason verdict.Reason
		detail string
	}{
		"good": {}, "lower": {},
		"unknown":   {verdict.CertUnknown, `the certificate registry does not know "acme/unknown"`},
		"deleted":   {verdict.CertUnknown, `the certificate registry does not know "acme/deleted"`},
		"revoked":   {verdict.CertRevoked, `the certificate registry says that "acme/revoked" is REVOKED`},
		"suspended": {verdict.CertRevoked, `the certificate registry says that "acme/suspended" is SUSPENDED`},
		"both":      {verdict.CertRevoked, `the certificate registry says that "acme/both" is REVOKED`},
		"ended":     {verdict.CertExpired, `the certificate of "acme/ended" ended at 2026-11-23T12:00:00Z, the message is of 2026-11-23T12:00:00Z`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := play(t, options...)
			s.sendAt(noon, "acme/"+name, "acme/"+name)
			if want.reason == verdict.Accepted {
				require.Equal(t, "tenant.acme.device."+name+".telemetry", s.only().subject)
				return
			}
			require.Equal(t, "quarantine."+want.reason.String()+".tenant.acme.device."+name+".telemetry", s.only().subject)
			require.Equal(t, want.detail, s.only().headers[HeaderDetail])
		})
	}
}

func TestTheRegistryIsAskedAfterTheCommonName(t *testing.T) {
	t.Parallel()
	_, options := registered(t)
	s := play(t, options...)
	s.sendAt(noon, "acme/other", "acme/dev-1")
	require.Equal(t, uint64(1), s.Counts().Rejected[verdict.CNMismatch])
	s.deliver(9, "bridge/v1/d/"+brokerID+"/1795442951630//"+telemetry, "x")
	require.Equal(t, uint64(1), s.Counts().Rejected[verdict.CNMissing])
	require.Zero(t, s.Counts().Rejected[verdict.CertUnknown])
}

// An outage held the message up: it was sent by a certificate that was good.
func TestExpiryIsJudgedByTheBrokersTime(t *testing.T) {
	t.Parallel()
	c, options := registered(t)
	c.Table().Put("acme", "dev-1", "ACTIVE", noon/1e6)
	s := play(t, options...)
	s.tick(time.Hour)
	s.sendAt(noon-1e6, "acme/dev-1", "acme/dev-1")
	require.Zero(t, s.rejected())
	s.sendAt(noon, "acme/dev-1", "acme/dev-1")
	require.Equal(t, uint64(1), s.Counts().Rejected[verdict.CertExpired])
	s.sendAt(noon+int64(8766*time.Hour), "acme/dev-1", "acme/dev-1")
	require.Equal(t, uint64(2), s.Counts().Rejected[verdict.CertExpired])
}

func TestARevocationCountsFromTheNextMessage(t *testing.T) {
	t.Parallel()
	c, options := registered(t)
	c.Table().Put("acme", "dev-1", "ACTIVE", 0)
	s := play(t, options...)
	s.sendAt(noon, "acme/dev-1", "acme/dev-1")
	c.Table().Put("acme", "dev-1", "REVOKED", 0)
	s.sendAt(noon, "acme/dev-1", "acme/dev-1")
	require.Equal(t, uint64(1), s.Counts().Rejected[verdict.CertRevoked])
	fresh := NewCertTable()
	fresh.Put("acme", "dev-1", "ACTIVE", 0)
	c.Use(fresh)
	s.sendAt(noon, "acme/dev-1", "acme/dev-1")
	require.Equal(t, uint64(1), s.rejected())
}

// A table with few places, so that runs are long and shards are rebuilt.
func TestACertificateTableIsAMap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		table := NewCertTable()
		model := map[string]Certificate{}
		names := rapid.IntRange(0, 300)
		statuses := rapid.SampledFrom([]string{"ACTIVE", "REVOKED", "LOST", ""})
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			device := fmt.Sprintf("dev-%d", names.Draw(t, "device"))
			if rapid.IntRange(0, 2).Draw(t, "what") == 0 {
				table.Delete("t", device)
				delete(model, "t/"+device)
				continue
			}
			status, end := statuses.Draw(t, "status"), rapid.Int64Range(0, maxNotAfter).Draw(t, "end")
			table.Put("t", device, status, end)
			model["t/"+device] = Certificate{Active: status == StatusActive, Status: status, NotAfter: end}
		}
		if rapid.Bool().Draw(t, "pack") {
			table.Compact()
		}
		require.Equal(t, len(model), table.Len())
		for i := range 301 {
			name := fmt.Sprintf("t/dev-%d", i)
			got, ok := table.find([]byte(name))
			want, known := model[name]
			require.Equal(t, known, ok, name)
			require.Equal(t, want, got)
		}
	})
}

// The table must not go by the hash: two names whose hashes are the same are two
// certificates.
func TestACollisionLetsNobodyIn(t *testing.T) {
	t.Parallel()
	table := NewCertTable()
	s, hash := table.shard([]byte("acme/good"))
	table.Put("acme", "good", "ACTIVE", 0)
	_, _, ok := s.find(hash, []byte("acme/evil"))
	require.False(t, ok, "a name with the hash of another")
}

func TestAllStatusesAreToldAndFewAreKept(t *testing.T) {
	t.Parallel()
	table := NewCertTable()
	for i := range 1000 {
		table.Put("t", fmt.Sprint(i), fmt.Sprintf("STATUS-%d", i), 0)
	}
	for i := range 1000 {
		c, ok := table.find(fmt.Appendf(nil, "t/%d", i))
		require.True(t, ok)
		require.False(t, c.Active)
		require.Contains(t, []string{fmt.Sprintf("STATUS-%d", i), "not active"}, c.Status)
	}
	table.Put("t", strings.Repeat("x", 1<<17), "ACTIVE", 0)
	require.Equal(t, 1000, table.Len(), "no topic has such a name")
}

func TestCertificatesAreSafeForManyLanes(t *testing.T) {
	t.Parallel()
	c := NewCertificates()
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for i := range 20_000 {
				c.Certificate(fmt.Appendf(nil, "t/%d", i%500))
			}
		})
	}
	for i := range 5_000 {
		c.Table().Put("t", fmt.Sprint(i%500), fmt.Sprintf("S%d", i%7), 0)
		if i%100 == 0 {
			c.Table().Delete("t", fmt.Sprint(i%500))
			c.Use(NewCertTable())
		}
	}
	wait.Wait()
}

// registry is n certificates with names of 24 bytes.
func registry(n int) *CertTable {
	t := NewCertTable()
	for i := range n {
		t.Put(fmt.Sprintf("tenant-%04d", i%1000), fmt.Sprintf("device-%05d", i/1000), StatusActive, noon/1e6+int64(i))
	}
	t.Compact()
	return t
}

// Not parallel: it reads the process's heap.
func TestAMillionCertificatesFit(t *testing.T) {
	const n = 1_000_000
	before := heap()
	table := registry(n)
	each := float64(heap()-before) / n
	t.Logf("%.1f B a certificate with its name", each)
	require.Equal(t, n, table.Len())
	require.LessOrEqual(t, each, 64.0)
	runtime.KeepAlive(table)
}

func TestALookupAllocatesNothing(t *testing.T) {
	c := NewCertificates()
	c.Use(registry(1000))
	name := []byte("tenant-0001/device-00000")
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, ok := c.Certificate(name); !ok {
			t.Fail()
		}
	}))
}

func BenchmarkCertificates(b *testing.B) {
	const n = 1_000_000
	c := NewCertificates()
	c.Use(registry(n))
	names := make([][]byte, n)
	for i := range names {
		names[i] = fmt.Appendf(nil, "tenant-%04d/device-%05d", i%1000, i/1000)
	}
	rand.Shuffle(n, func(i, j int) { names[i], names[j] = names[j], names[i] })
	for name, span := range map[string]int{"warm": 16, "cold": n} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				c.Certificate(names[i%span])
				i++
			}
		})
	}
}
