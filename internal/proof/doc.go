// Package proof has what the tests of the promise share: a message that the broker
// handed to the bridge at QoS 1 is stored in JetStream exactly once, in its device's
// order, or is in quarantine with the reason.
//
// The tests are in the packages below, by theme:
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
// Most run a real mosquitto, a real nats-server and the bridge as processes, a [Rig], under a
// [Load] and a [Fault]; the others run the bridge in process between the embedded broker and the
// embedded nats-server. [Load.Reconcile] then compares what the publisher got a PUBACK for with
// what the stream has.
//
// Every load that goes through a fault is a row of the table that each package prints at its
// end (go test -v); make faults prints one table of all (see docs/faults.md).
//
// BRIDGE_FAULTS=1 runs every fault in full; without it the tests that take a minute or
// more run shortened, or are skipped. BRIDGE_PROOF_SEED repeats the random choices of a
// run. FAULT_MINUTES sets how long all faults are injected together. BRIDGE_REQUIRE_PEERS=1 turns
// a missing program into a failure.
package proof
