// Package subjects maps MQTT topics to NATS subjects and back. It is pure: no
// I/O, no state, nothing but the standard library, and nothing on the path of a
// message allocates.
//
// # The mapping
//
// A topic's levels become a subject's tokens, tenant/acme/device/dev-1/telemetry
// becomes tenant.acme.device.dev-1.telemetry. Bytes that a token cannot carry,
// or that mean something in a subject, are written as % and two upper-case
// hexadecimal digits:
//
//	topic               subject  why
//	/ between levels    .        the separator of tokens
//	an empty level      %00      a token is not empty (ADR-6); MQTT topics hold no NUL
//	                             [MQTT-1.5.3-2], so %00 is free
//	.                   %2E      would begin another token
//	* >                 %2A %3E  wildcards; nats-server stores a literal * as it came
//	                             (measured), and no filter can then tell it apart
//	space               %20      ends the subject in the client protocol
//	0x01-0x1F, 0x7F     %01 ...  not printable (ADR-6); CR, LF and TAB end the subject
//	0x80-0xFF           %80 ...  not ASCII (ADR-6); byte by byte, so that even a topic
//	                             that is not UTF-8 comes back exactly
//	%                   %25      the mark of an escape
//	$ as first byte     %24      begins the subjects that the server keeps to itself
//	of the subject               (ADR-6, js-internal-prefix): $SYS, $JS, $KV
//
// All else stands for itself, a $ further on, + and # among it. The mapping is
// one to one: [FromTopic] gives every legal topic a subject of its own, [ToTopic]
// gives the topic back and refuses what [FromTopic] never writes. A subject has
// at most [MaxTokens] tokens and [MaxSubjectBytes] bytes.
//
// # Patterns
//
// A [Pattern] such as tenant/{tenant}/device/{device}/{type} says which topics
// are taken and names their variable levels; {name...} at its end takes all levels that are
// left. A [Template] says which subject
// they get, a [Set] holds the routes of a configuration. A [Prefix] cuts what
// the broker vouches for off an attested topic.
//
// ADR-6 is "Protocol Naming Conventions" of
// github.com/nats-io/nats-architecture-and-design: a token is printable ASCII,
// 33 to 126, without dot, asterisk and greater-than. [MQTT-x.y.z-n] are the
// conformance statements of MQTT 3.1.1.
package subjects
