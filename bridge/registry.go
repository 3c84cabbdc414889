package bridge

import (
	"time"

	"mqtt-nats-bridge/bridge/certificates"
	"mqtt-nats-bridge/bridge/verdict"
)

// Registry knows the devices' certificates. It is called for each message whose common name
// is its topic's tenant/device, so it must not do I/O or allocate. Safe for concurrent use.
type Registry interface {
	// Certificate returns the certificate with that common name, tenant/device; false:
	// it is not known.
	Certificate(name []byte) (certificates.Certificate, bool)
}

// certified checks the certificate. A revocation applies from when it is known here, because
// the registry does not contain its time. Expiry is compared with the time at which the
// message was published, by the broker's clock: a message that an outage delayed was sent
// with a certificate that was valid then.
func (v *validator) certified() bool {
	c, known := v.rules.Registry.Certificate(v.cn)
	switch now := v.clock / 1e6; {
	case !known:
		v.reject(verdict.CertUnknown, "the certificate registry does not know %s", excerpt(v.cn))
	case !c.Active:
		v.reject(verdict.CertRevoked, "the certificate registry says that %s is %s", excerpt(v.cn), c.Status)
	case c.NotAfter != 0 && now >= c.NotAfter:
		v.reject(verdict.CertExpired, "the certificate of %s ended at %s, the message is of %s", excerpt(v.cn),
			time.UnixMilli(c.NotAfter).UTC().Format(time.RFC3339), time.UnixMilli(now).UTC().Format(time.RFC3339))
	default:
		return true
	}
	return false
}
