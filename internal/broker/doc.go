// Package broker is an MQTT broker in the process, for the demo and the tests
// alone. It stands in for EMQX: a plain listener for services, an mTLS listener
// for devices, and a rule that republishes each device message under its attested
// topic (bridge/DESIGN.md, "Identity").
//
// It does what EMQX 5.8.9 was seen to do where that decides over a message; what
// depends on EMQX's configuration or load is a field of [Options]:
//
//   - Sessions: one name space of client ids for all listeners. A session keeps the
//     queue limit of the zone it was created in; a full queue drops the oldest. A
//     client that connects takes the session over, from an attached clean-session
//     client too. Unacknowledged messages come first, in order, under their packet
//     ids, and then the queue. DUP is 1 only for the former, and not even for them
//     if the connection was open when its session was taken over.
//   - A start: listeners open before authentication, ACL and rule are there.
//   - The ACL: deny_action, and the cache that keeps a refusal.
//   - The rule runs before the publisher's PUBACK; a will has no client_attrs.
//   - A rate limit that releases lumps with one time stamp.
//   - $share with hash_clientid, which for attested messages means one member; and
//     the messages that a takeover loses without it.
//
// mochi-mqtt does the protocol, subscriptions and retained messages; sessions and
// the dispatch are this package's own. Limits that remain:
//
//   - Sessions live in memory; [Broker.Close] ends them. They do not expire.
//   - Overlapping plain subscriptions of one client give one copy; EMQX gives one
//     for each.
//   - At QoS 2 a message is settled with the subscriber's PUBREC.
//   - A client that publishes at QoS 2 and subscribes above QoS 0 shares one
//     packet-id space for both directions.
package broker
