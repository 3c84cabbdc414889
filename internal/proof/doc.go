// Package proof holds the bridge to its promise: a message that the broker
// handed to it at QoS 1 is stored in JetStream exactly once, in its device's
// order, or is in quarantine with the reason.
//
// There are only tests here. Most run a real mosquitto, a real nats-server and
// the bridge as processes that are killed, frozen and cut off while a load runs;
// the others run the bridge in process between the embedded broker and the
// embedded nats-server. A checker then holds what the publisher got a PUBACK for
// against what the stream has.
//
// Every load that goes through a fault is a row of the table that is printed at the
// end (go test -v, make faults; see docs/faults.md).
//
// BRIDGE_FAULTS=1 runs every fault in full; without it the tests that take a minute or
// more run shortened, or are skipped. BRIDGE_PROOF_SEED repeats the random choices of a
// run. FAULT_MINUTES sets how long all faults strike together. BRIDGE_REQUIRE_PEERS=1 turns
// a missing program into a failure.
package proof
