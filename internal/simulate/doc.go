// Package simulate runs a bridge (the real lane, journal and publisher) between a simulated MQTT
// broker and a simulated JetStream in virtual time. It injects faults drawn from a seed and checks
// the guarantees after each step.
//
//   - schedule.go, generate.go: the events of a run, as text and from a seed
//   - broker.go: MQTT 3.1.1 §4.4, consecutive packet ids, a window, a session
//   - jetstream/: a NATS connection and the streams behind it
//   - outage.go: outages of NATS and of the process, some longer than the duplicate window
//   - process.go: one bridge from start to end, and its ports
//   - journal.go: the journal file: copied at a kill, torn, rolled back
//   - redelivery.go: brokers that restart or use up packet ids, or are rolled back; a session that
//     another process used
//   - world.go, judgement.go, rest.go: the steps, the guarantees, the end of a run
//   - sabotage.go: deliberately broken bridges, which the simulation must detect
//   - shorten.go: reduces a failing schedule to the events it needs
//
// Nothing here runs in production.
//
// # What is simulated
//
// Each step is an event of the schedule: the broker sends, the bridge reads, a server stores or
// answers, a connection dies with its contents, the bridge is killed with the present state of its
// journal. An event can also happen inside another one, where the lane calls the publisher or the
// publisher calls the lane. One goroutine drives the events; the publisher's timer runs whenever
// time passes.
//
// # Assumptions
//
// The order of a device's messages depends on assumptions that the simulation keeps unless the
// set-up is "ragged":
//
//   - A server that stops accepting messages, even silently, continues to refuse them until the
//     publisher has noticed: a leader election (at least 4 s) is longer than the acknowledgement
//     timeout (3 s). If a publisher has had no answer yet, a fault may end at any time, because
//     streams are created while it starts.
//   - A server handles the remaining messages of a dead connection within 20 s, and their answers
//     arrive within another 20 s.
//
// A new message is never mistaken for a redelivery under these assumptions (bridge/DESIGN.md,
// "Redelivery"):
//
//   - If a broker is rolled back to a snapshot, it delivers one message without DUP before its
//     connection dies again.
//   - Before packet ids wrap around to the latest ones, at least a second passes in which the broker
//     answers a ping. If another process had the session of a bridge, the bridge was disconnected
//     for at least a minute.
//
// No two journals have the same epoch. Random ones repeat with a chance of 1 in 65,536, which
// matters where the clock is set back and the journal is lost (bridge/DESIGN.md, "Message ids").
//
// Look-ups depend on the clocks (bridge/DESIGN.md, "What JetStream has forgotten"): those of broker
// and bridge differ by less than a minute, those of a cluster's servers by a few seconds. The
// difference between NATS and the bridge does not matter. Only a leader that has applied its log
// answers.
//
// A second copy in the stream is not a violation where docs/guarantees.md allows it: the first copy
// was purged before the bridge learned of it, a bridge without state on disk was killed, or no rule
// can detect that a message was redelivered (broker.excuse). A closed duplicate window is not such
// an exception.
package simulate
