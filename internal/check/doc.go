// Package check looks at a configuration as the bridge will meet it, before the
// bridge does: what it means for a topic, whether broker and NATS answer, take
// the credentials and grant what the bridge needs.
//
// Nothing it does leaves a trace. The MQTT session is a clean one under a client
// id of its own, in a $share group of its own, so that the bridge's sessions keep
// their messages. The probes it publishes to NATS name a stream that cannot
// exist: JetStream refuses them before it stores anything (error 10060). Plain
// subscribers of such a subject see an empty message. A device that it connects as shows in
// the presence of that device, where the broker reports presence.
package check
