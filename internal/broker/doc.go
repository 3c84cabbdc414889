// Package broker is an MQTT broker in the process, for the demo and the tests
// alone. It stands in for EMQX: a plain listener for services, an mTLS listener
// for devices, and a rule that republishes each device message under its
// attested topic (bridge/DESIGN.md, "Identity").
//
// It is mochi-mqtt with its session handling put right. What mochi 2.7.9 does on
// its own, and what this package does about it:
//
//   - On a reconnect it resends what was not acknowledged in order of the
//     second of its arrival, within one second at random. Here: in the order
//     sent, DUP=1; then what came while the client was away, DUP=0.
//   - A message published while a session changes hands is lost with the old
//     session, or overtakes the CONNACK. Here: publishing waits meanwhile.
//   - It answers a SUBSCRIBE with failure where the packet id of an unrelated
//     message in flight to the same client is equal; a bridge that subscribes on
//     every connect meets that at once. Here: the two are kept apart.
//   - A publish that the ACL denies ends the connection. Here, as with EMQX's
//     deny_action = ignore: it is acknowledged and vanishes.
//   - A member of a $share group is chosen at random. Here: by the publisher's
//     client id, as EMQX's hash_clientid does.
//
// Limits that remain:
//
//   - Sessions live in memory; [Broker.Close] ends them.
//   - A client without acknowledgements holds at most 65,535 messages (MQTT's
//     packet ids; mochi has no queue behind them). What comes beyond is dropped
//     and counted: [Broker.Dropped]. QoS 0 to an absent client is not kept.
//   - There is no in-flight window: up to these 65,535 are sent at once. A
//     subscriber that stops reading holds up whoever publishes to it, until its
//     keep-alive runs out.
//   - At most 32,768 packets wait for a connected client's socket; beyond, they
//     are dropped and counted.
//   - A message that waited for the socket when the connection broke comes with
//     DUP=1 although it never left ("might be", MQTT 3.1.1 §3.3.1.1).
//   - MQTT 5 flow control (receive maximum) loses messages in mochi: subscribe
//     with 3.1.1. A client that both publishes and subscribes above QoS 0 shares
//     one packet-id space for both directions.
package broker
