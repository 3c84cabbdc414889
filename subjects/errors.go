package subjects

import "errors"

// Reasons why a topic has no subject, or a subject no topic.
var (
	// ErrTopicEmpty means that the topic is empty [MQTT-4.7.3-1].
	ErrTopicEmpty = errors.New("topic is empty")
	// ErrTopicNUL means that the topic contains a NUL [MQTT-4.7.3-2].
	ErrTopicNUL = errors.New("topic contains a NUL byte")
	// ErrTooManyTokens means that the subject would have more than [MaxTokens] tokens.
	ErrTooManyTokens = errors.New("subject would have more than 32 tokens")
	// ErrSubjectTooLong means that the subject would have more than [MaxSubjectBytes] bytes,
	// escapes included.
	ErrSubjectTooLong = errors.New("subject would be longer than 1,024 bytes")
	// ErrSubjectReserved means that the subject begins with _INBOX, where clients receive replies.
	// A publisher to such a subject could forge an answer of JetStream.
	ErrSubjectReserved = errors.New("subject would begin with _INBOX, which is reserved for replies")
	// ErrNotCanonical means that [FromTopic] never writes this subject.
	ErrNotCanonical = errors.New("subject is not the image of a topic")
)

// Reasons why a matched topic identifies no device.
var (
	// ErrTenantEmpty means that the level of {tenant} is empty, or that the pattern has no tenant.
	ErrTenantEmpty = errors.New("tenant is empty")
	// ErrDeviceEmpty means that the level of {device} is empty, or that the pattern has no device.
	ErrDeviceEmpty = errors.New("device is empty")
)

// Reasons why an attested topic is not valid. The broker writes these levels, so each error points
// to the broker's rule and not to a device.
var (
	// ErrNotAttested means that the topic does not begin with the attested prefix.
	ErrNotAttested = errors.New("topic does not begin with the attested prefix")
	// ErrAttestationShort means that the topic has fewer levels than partition, id, time, CN and
	// one level of the device's topic.
	ErrAttestationShort = errors.New("attested topic ends before the device's topic")
	// ErrPartition means that the partition is empty.
	ErrPartition = errors.New("attested partition is empty")
	// ErrBrokerID means that the id is empty, longer than [MaxIDBytes] or contains a byte that is
	// not printable ASCII. The id is written to a header unchanged.
	ErrBrokerID = errors.New("attested id is not 1 to 64 printable ASCII bytes")
	// ErrBrokerTime means that the time is not a decimal number, or exceeds an int64.
	ErrBrokerTime = errors.New("attested time is not a decimal number of milliseconds")
	// ErrNoCN means that the broker has no CN for the client: the level is empty, or "undefined" in
	// plain text or hexadecimal, which EMQX writes for a missing username.
	ErrNoCN = errors.New("attested CN is missing")
	// ErrCNHex means that the CN is not a sequence of hexadecimal digit pairs.
	ErrCNHex = errors.New("attested CN is not hexadecimal")
)
