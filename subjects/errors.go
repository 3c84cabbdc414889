package subjects

import "errors"

// Why a topic has no subject, or a subject no topic.
var (
	// ErrTopicEmpty: a topic has at least one byte [MQTT-4.7.3-1].
	ErrTopicEmpty = errors.New("topic is empty")
	// ErrTopicNUL: a topic holds no NUL [MQTT-4.7.3-2].
	ErrTopicNUL = errors.New("topic holds a NUL byte")
	// ErrTooManyTokens: more than [MaxTokens] tokens.
	ErrTooManyTokens = errors.New("subject would have more than 32 tokens")
	// ErrSubjectTooLong: more than [MaxSubjectBytes] bytes, escapes included.
	ErrSubjectTooLong = errors.New("subject would be longer than 1,024 bytes")
	// ErrSubjectReserved: the subject begins with _INBOX, where clients wait
	// for replies. Who publishes there could forge an answer of JetStream.
	ErrSubjectReserved = errors.New("subject would begin with _INBOX, which belongs to replies")
	// ErrNotCanonical: the subject is not one that [FromTopic] writes.
	ErrNotCanonical = errors.New("subject is not the image of a topic")
)

// Why a matched topic names no device.
var (
	// ErrTenantEmpty: the level of {tenant} is empty, or the pattern has none.
	ErrTenantEmpty = errors.New("tenant is empty")
	// ErrDeviceEmpty: the level of {device} is empty, or the pattern has none.
	ErrDeviceEmpty = errors.New("device is empty")
)

// Why an attested topic cannot be believed. The broker writes these levels, so
// each of them points to its rule and not to a device.
var (
	// ErrNotAttested: the topic does not begin with the prefix.
	ErrNotAttested = errors.New("topic does not begin with the attested prefix")
	// ErrAttestationShort: fewer levels than partition, id, time, CN and one
	// of the device's.
	ErrAttestationShort = errors.New("attested topic ends before the device's topic")
	// ErrPartition: the partition is empty.
	ErrPartition = errors.New("attested partition is empty")
	// ErrBrokerID: the id is empty, longer than [MaxIDBytes] or holds a byte
	// that is not printable ASCII. It becomes a header line as it stands.
	ErrBrokerID = errors.New("attested id is not 1 to 64 printable ASCII bytes")
	// ErrBrokerTime: the time is not decimal digits, or exceeds an int64.
	ErrBrokerTime = errors.New("attested time is not a decimal number of milliseconds")
	// ErrNoCN: the broker knew no CN: empty, or EMQX's word "undefined" for a
	// missing username, in hexadecimal or bare.
	ErrNoCN = errors.New("attested CN is missing")
	// ErrCNHex: the CN is not pairs of hexadecimal digits.
	ErrCNHex = errors.New("attested CN is not hexadecimal")
)
