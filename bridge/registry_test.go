package bridge

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/certificates"
	"mqtt-nats-bridge/bridge/verdict"
)

// registered adds a registry to a lane on attested topics.
func registered(t tester) (*certificates.Live, []func(*LaneOptions)) {
	c := certificates.New()
	return c, []func(*LaneOptions){attested(t), func(o *LaneOptions) { o.Rules.Registry = c }}
}

func TestRegistryVerdict(t *testing.T) {
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
		"unknown":   {verdict.CertUnknown, `the certificate registry does not contain "acme/unknown"`},
		"deleted":   {verdict.CertUnknown, `the certificate registry does not contain "acme/deleted"`},
		"revoked":   {verdict.CertRevoked, `the certificate registry lists "acme/revoked" as REVOKED`},
		"suspended": {verdict.CertRevoked, `the certificate registry lists "acme/suspended" as SUSPENDED`},
		"both":      {verdict.CertRevoked, `the certificate registry lists "acme/both" as REVOKED`},
		"ended":     {verdict.CertExpired, `the certificate of "acme/ended" expired at 2026-11-23T12:00:00Z, the message was published at 2026-11-23T12:00:00Z`},
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

func TestRegistry(t *testing.T) {
	t.Parallel()
	t.Run("CN is checked before the registry", testCNIsCheckedBeforeTheRegistry)
	t.Run("expiry is checked by broker time", testExpiryIsCheckedByBrokerTime)
	t.Run("revocation applies from the next message", testRevocationAppliesFromTheNextMessage)
}

func testCNIsCheckedBeforeTheRegistry(t *testing.T) {
	t.Parallel()
	_, options := registered(t)
	s := play(t, options...)
	s.sendAt(noon, "acme/other", "acme/dev-1")
	require.Equal(t, uint64(1), s.Counts().Rejected[verdict.CNMismatch])
	s.deliver(9, "bridge/v1/d/"+brokerID+"/1795442951630//"+telemetry, "x")
	require.Equal(t, uint64(1), s.Counts().Rejected[verdict.CNMissing])
	require.Zero(t, s.Counts().Rejected[verdict.CertUnknown])
}

// An outage delayed the message: its certificate was valid at the time of sending.
func testExpiryIsCheckedByBrokerTime(t *testing.T) {
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

func testRevocationAppliesFromTheNextMessage(t *testing.T) {
	t.Parallel()
	c, options := registered(t)
	c.Table().Put("acme", "dev-1", "ACTIVE", 0)
	s := play(t, options...)
	s.sendAt(noon, "acme/dev-1", "acme/dev-1")
	c.Table().Put("acme", "dev-1", "REVOKED", 0)
	s.sendAt(noon, "acme/dev-1", "acme/dev-1")
	require.Equal(t, uint64(1), s.Counts().Rejected[verdict.CertRevoked])
	fresh := certificates.NewTable()
	fresh.Put("acme", "dev-1", "ACTIVE", 0)
	c.Use(fresh)
	s.sendAt(noon, "acme/dev-1", "acme/dev-1")
	require.Equal(t, uint64(1), s.rejected())
}
