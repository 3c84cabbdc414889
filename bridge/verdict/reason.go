// Package verdict names the reasons for which a message is rejected. A reason's token is the
// second token of the message's quarantine subject, the header Bridge-Reason and the label of
// metrics: tokens do not change.
package verdict

// Reason is why a message was rejected.
type Reason uint8

const (
	// Accepted is the verdict on a message that passed every check.
	Accepted Reason = iota
	// BadTopic means that the topic has no subject, or that the broker's attestation in
	// it is malformed.
	BadTopic
	// PayloadTooLarge means that the payload exceeds the configured limit.
	PayloadTooLarge
	// CNMissing means that the broker attested no common name.
	CNMissing
	// CNMismatch means that the common name is not exactly tenant/device of the topic.
	CNMismatch
	// CertUnknown means that the certificate registry does not know the certificate.
	CertUnknown
	// CertRevoked means that the certificate registry lists it as not active.
	CertRevoked
	// CertExpired means that the message was published after the certificate's end.
	CertExpired
	// RateLimited means that the device exceeds its limit.
	RateLimited
	// TenantRateLimited means that the devices of the tenant together exceed its limit.
	TenantRateLimited
	// BadPayload means that the payload does not fit the route's format.
	BadPayload
	// Refused means that JetStream will never take the message.
	Refused
	// NotSubscribed means that the broker delivers a topic to which this configuration
	// does not subscribe: a subscription of an earlier one is still in the session. The
	// device is not to blame, so its quarantine bound does not apply.
	NotSubscribed

	// Count is the number of reasons, Accepted included.
	Count
)

var tokens = [Count]string{
	"accepted", "bad_topic", "payload_too_large", "cn_missing", "cn_mismatch",
	"cert_unknown", "cert_revoked", "cert_expired", "rate_limited",
	"tenant_rate_limited", "bad_payload", "refused",
	"not_subscribed",
}

// String returns the token of r.
func (r Reason) String() string { return tokens[r] }

// Reasons returns every reason for a rejection.
func Reasons() []Reason {
	all := make([]Reason, 0, Count-1)
	for r := BadTopic; r < Count; r++ {
		all = append(all, r)
	}
	return all
}
