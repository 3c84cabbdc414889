// Package proof contains the helpers for the tests of the guarantee: a message that the broker
// delivers to the bridge at QoS 1 is stored in JetStream exactly once, in the order of its device,
// or is in quarantine with the reason.
//
// The tests are in the packages below, by topic:
//
//   - faults: processes are killed, frozen and cut off under load, disks fill up
//   - links: connections go silent, slow and dead; answers are lost
//   - cluster: three nats-servers, several replicas of the bridge, all faults mixed
//   - brokers: mosquitto, RabbitMQ and nats-server as brokers; redelivery; malformed packets
//   - leaf: leaf mode
//   - hostile: devices, brokers and NATS servers that attack
//   - emqx: what EMQX does, on the embedded broker
//   - operation: ingest, replay, limits, the documented commands, permissions
//
// Most tests run a real mosquitto, a real nats-server and the bridge as processes, a [Rig], under a
// [Load] and a [Fault]. The others run the bridge in the test process between the embedded broker
// and the embedded nats-server. [Load.Reconcile] then compares the publisher's PUBACKs with the
// contents of the stream.
//
// Each load with a fault is a row of the table that its package prints at the end (go test -v).
// make faults prints one table for all packages (see docs/faults.md).
//
// BRIDGE_FAULTS=1 runs every fault in full. Without it, tests that take a minute or more are
// shortened or skipped. BRIDGE_PROOF_SEED repeats the random choices of a run. FAULT_MINUTES sets
// the duration of the tests that inject all faults together. If BRIDGE_REQUIRE_PEERS=1, a missing
// program is a failure.
package proof
