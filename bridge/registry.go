package bridge

import "time"

// Registry knows the devices' certificates. It is asked for each message whose
// common name is its topic's tenant/device: so it does no I/O and allocates
// nothing. Safe for concurrent use.
type Registry interface {
	// Certificate returns what is known of the certificate with that common
	// name, tenant/device; false: nothing.
	Certificate(name []byte) (Certificate, bool)
}

// Certificate is the registry's word on one certificate.
type Certificate struct {
	Active bool
	// Status is the registry's own word for it, for people.
	Status string
	// NotAfter is when it ends, in ms since the epoch; 0: never.
	NotAfter int64
}

// certified asks the registry. Revocation counts from when it is known here: the
// registry does not say since when. Expiry is a time, and is held against the one
// that the message was published at, by the broker's clock: what an outage held up
// was sent by a certificate that was good.
func (j *judge) certified() bool {
	c, known := j.rules.Registry.Certificate(j.cn)
	switch now := j.clock / 1e6; {
	case !known:
		j.reject(CertUnknown, "the certificate registry does not know %s", excerpt(j.cn))
	case !c.Active:
		j.reject(CertRevoked, "the certificate registry says that %s is %s", excerpt(j.cn), c.Status)
	case c.NotAfter != 0 && now >= c.NotAfter:
		j.reject(CertExpired, "the certificate of %s ended at %s, the message is of %s", excerpt(j.cn),
			time.UnixMilli(c.NotAfter).UTC().Format(time.RFC3339), time.UnixMilli(now).UTC().Format(time.RFC3339))
	default:
		return true
	}
	return false
}
