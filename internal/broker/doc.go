// Package broker is an embedded MQTT broker, only for the demo and the tests. It stands in for EMQX.
// It has a plain listener for services, an mTLS listener for devices, and a rule that republishes
// each device message under its attested topic (bridge/DESIGN.md, "Identity").
//
// The broker reproduces the observed behaviour of EMQX 5.8.9 where it decides what happens to a
// message. Behaviour that depends on EMQX's configuration or load is a field of [Options]:
//
//   - Sessions: all listeners share one name space of client ids. A session keeps the queue limit of
//     the zone where it was created. A full queue drops its oldest message. A client that connects
//     takes the session over, also from a connected clean-session client. The broker then resends the
//     unacknowledged messages in order with their packet ids, and sends the queue. Resent messages
//     have DUP=1, unless the session was taken over from an open connection.
//   - Start: the listeners open before authentication, ACL and rule are loaded.
//   - The ACL: deny_action, and the cache that keeps a refusal.
//   - The rule runs before the publisher gets its PUBACK. A will has no client_attrs.
//   - The rate limit releases messages in bursts with one timestamp.
//   - $share with hash_clientid, which picks one member for all attested messages, and the messages
//     that a session takeover loses with other strategies.
//
// mochi-mqtt implements the protocol, subscriptions and retained messages. This package implements
// sessions and dispatch. Known limits:
//
//   - Sessions are in memory and do not expire. [Broker.Close] deletes them.
//   - A client with overlapping plain subscriptions gets one copy of a message; EMQX sends one per
//     subscription.
//   - At QoS 2, a message is settled with the subscriber's PUBREC.
//   - A client that publishes at QoS 2 and subscribes above QoS 0 shares one packet-id space for both
//     directions.
package broker
