package bridge

import (
	"time"

	"mqtt-nats-bridge/bridge/certificates"
	"mqtt-nats-bridge/bridge/verdict"
)

// Registry looks up the devices' certificates. It is called for each message whose common name
// matches its topic, so it must neither do I/O nor allocate. Safe for concurrent use.
type Registry interface {
	// Certificate returns the certificate with that common name (tenant/device), and false if there
	// is none.
	Certificate(name []byte) (certificates.Certificate, bool)
}

// checkCertificate validates the device's certificate. A revocation applies from when this process
// learns of it, because the registry does not record its time. Expiry is compared with the time of
// publication, by the broker's clock: a message delayed by an outage was sent with a certificate
// that was valid then.
func (v *validator) checkCertificate() bool {
	c, known := v.rules.Registry.Certificate(v.cn)
	switch now := v.clock / 1e6; {
	case !known:
		v.reject(verdict.CertUnknown, "the certificate registry does not contain %s", excerpt(v.cn))
	case !c.Active:
		v.reject(verdict.CertRevoked, "the certificate registry lists %s as %s", excerpt(v.cn), c.Status)
	case c.NotAfter != 0 && now >= c.NotAfter:
		v.reject(verdict.CertExpired, "the certificate of %s expired at %s, the message was published at %s", excerpt(v.cn),
			time.UnixMilli(c.NotAfter).UTC().Format(time.RFC3339), time.UnixMilli(now).UTC().Format(time.RFC3339))
	default:
		return true
	}
	return false
}
