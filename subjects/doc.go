// Package subjects maps MQTT topics to NATS subjects and back. It uses only the standard library,
// does no I/O, keeps no state, and allocates nothing per message.
//
// # The mapping
//
// Each topic level becomes one subject token: tenant/acme/device/dev-1/telemetry becomes
// tenant.acme.device.dev-1.telemetry. Bytes that a token cannot contain, or that have a special
// meaning in a subject, are written as % and two upper-case hexadecimal digits:
//
//	topic               subject  why
//	/ between levels    .        the separator of tokens
//	an empty level      %00      a token cannot be empty (ADR-6); MQTT topics contain no NUL
//	                             [MQTT-1.5.3-2], so %00 is free
//	.                   %2E      would begin another token
//	* >                 %2A %3E  wildcards; nats-server stores a literal * unchanged
//	                             (measured), and no filter can then distinguish it
//	space               %20      ends the subject in the client protocol
//	0x01-0x1F, 0x7F     %01 ...  not printable (ADR-6); CR, LF and TAB end the subject
//	0x80-0xFF           %80 ...  not ASCII (ADR-6); byte by byte, so that even a topic
//	                             that is not UTF-8 comes back exactly
//	%                   %25      the mark of an escape
//	$ as first byte     %24      begins the subjects reserved for the server
//	of the subject               (ADR-6, js-internal-prefix): $SYS, $JS, $KV
//
// Every other byte is unchanged, including $ elsewhere, + and #. The mapping is one-to-one:
// [FromTopic] maps every valid topic to a distinct subject. [ToTopic] returns the topic, and
// rejects subjects that [FromTopic] never writes. A subject has at most [MaxTokens] tokens and
// [MaxSubjectBytes] bytes.
//
// # Patterns
//
// A [Pattern] such as tenant/{tenant}/device/{device}/{type} selects topics and names their
// variable levels; {name...} at its end matches all remaining levels. A [Template] defines their
// subjects. A [Set] contains the routes of a configuration. A [Prefix] splits an attested topic
// into the broker's attestation and the device's topic.
//
// ADR-6 is "Protocol Naming Conventions" of github.com/nats-io/nats-architecture-and-design: a
// token is printable ASCII, 33 to 126, without dot, asterisk and greater-than. [MQTT-x.y.z-n] are
// the conformance statements of MQTT 3.1.1.
package subjects
