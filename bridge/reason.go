package bridge

// Reason is why a message was rejected: the second token of its quarantine
// subject and the label of its metric.
type Reason uint8

const (
	// Accepted is the verdict of a message that passed every check.
	Accepted Reason = iota
	// BadTopic: no subject can be made of the topic, or the broker's
	// attestation in it is broken.
	BadTopic
	// PayloadTooLarge: over limits.payload.
	PayloadTooLarge
	// CNMissing: the broker vouched for no common name.
	CNMissing
	// CNMismatch: the common name is not exactly tenant/device of the topic.
	CNMismatch
	// CertUnknown, CertRevoked, CertExpired: the certificate registry's word.
	CertUnknown
	CertRevoked
	CertExpired
	// RateLimited, TenantRateLimited: faster than the device's or the
	// tenant's limit.
	RateLimited
	TenantRateLimited
	// BadPayload: the payload does not fit the route's format.
	BadPayload
	// Refused: JetStream will never take the message.
	Refused
	// NotSubscribed means that the broker delivers what this configuration does
	// not subscribe to: a subscription of an earlier one is still in the session.
	// The device did nothing wrong, so its quarantine bound does not apply.
	NotSubscribed

	reasons // how many there are
)

var reasonTokens = [reasons]string{
	"accepted", "bad_topic", "payload_too_large", "cn_missing", "cn_mismatch",
	"cert_unknown", "cert_revoked", "cert_expired", "rate_limited",
	"tenant_rate_limited", "bad_payload", "refused",
	"not_subscribed",
}

// String returns the token that stands for r in subjects and labels.
func (r Reason) String() string { return reasonTokens[r] }

// Reasons returns every reason for a rejection.
func Reasons() []Reason {
	all := make([]Reason, 0, reasons-1)
	for r := BadTopic; r < reasons; r++ {
		all = append(all, r)
	}
	return all
}
