// Package check tests a configuration before the bridge runs with it: how a topic is routed, and
// whether broker and NATS answer, accept the credentials and grant the permissions that the bridge
// needs.
//
// A check leaves no trace. Its MQTT session is clean and has a separate client id and $share group,
// so that the bridge's sessions keep their messages. Its NATS probes name a stream that cannot
// exist, so JetStream refuses them before it stores anything (error 10060). Plain subscribers of
// such a subject receive an empty message. If the check connects as a device and the broker reports
// presence, the presence of that device changes.
package check
