// Package verdict defines the reasons for which a message is rejected. A reason's token is the
// second token of the quarantine subject, the header Bridge-Reason and a metric label, so tokens
// never change.
package verdict

// Reason is the reason why a message was rejected.
type Reason uint8

const (
	// Accepted is the verdict for a message that passed every check.
	Accepted Reason = iota
	// BadTopic means that the topic maps to no subject, or that the broker's attestation in it is
	// malformed.
	BadTopic
	// PayloadTooLarge means that the payload exceeds the configured limit.
	PayloadTooLarge
	// CNMissing means that the broker attested no common name.
	CNMissing
	// CNMismatch means that the common name differs from tenant/device of the topic.
	CNMismatch
	// CertUnknown means that the certificate registry does not contain the certificate.
	CertUnknown
	// CertRevoked means that the certificate registry lists the certificate as not active.
	CertRevoked
	// CertExpired means that the message was published after the certificate had expired.
	CertExpired
	// RateLimited means that the device exceeds its rate limit.
	RateLimited
	// TenantRateLimited means that the tenant's devices together exceed its rate limit.
	TenantRateLimited
	// BadPayload means that the payload does not match the route's format.
	BadPayload
	// Refused means that JetStream refused the message permanently.
	Refused
	// NotSubscribed means that the broker delivered a topic to which this configuration does not
	// subscribe: the session still has a subscription of an earlier configuration. The device is
	// not to blame, so its quarantine bound does not apply.
	NotSubscribed

	// Count is the number of reasons, including Accepted.
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

// Reasons returns all reasons for a rejection.
func Reasons() []Reason {
	all := make([]Reason, 0, Count-1)
	for r := BadTopic; r < Count; r++ {
		all = append(all, r)
	}
	return all
}
