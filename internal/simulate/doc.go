// Package simulate runs a bridge (the real lane, journal and publisher) between
// a simulated MQTT broker and a simulated JetStream under virtual time, through
// faults drawn from a seed, and checks its promises after each step.
//
//   - schedule.go, generate.go: what happens in a run, as text and from a seed
//   - broker.go: MQTT 3.1.1 §4.4, packet ids in turn, a window, a session
//   - streams/: a NATS connection and the streams behind it
//   - outage.go: outages of NATS and of the process, longer than the duplicate window too
//   - process.go: one bridge from its start to its end, and the ports around it
//   - journal.go: its journal's file, copied at a kill, torn, set back
//   - redelivery.go: brokers that number anew, use packet ids up, are set back; a
//     session that was elsewhere
//   - world.go, judgement.go, rest.go: the steps, the promises, the end
//   - sabotage.go: bridges broken on purpose, which the simulation must catch
//   - shorten.go: a failing schedule without what it does not need
//
// Nothing here runs in production.
//
// # What is simulated
//
// Everything that happens is an event of the schedule: that the broker sends, the
// bridge reads, a server stores or answers, a connection dies with what is in it,
// the bridge is killed with its journal as it is at that instant. An event can
// also happen in the middle of another one, where the lane hands over to the
// publisher or the publisher to the lane. One goroutine drives all of it; the
// publisher's timer runs whenever time passes.
//
// # What is taken for granted
//
// The order of a device's messages needs a few things of the world, which the
// simulation keeps unless its set-up says "ragged":
//
//   - a server that stops taking messages, be it silently, goes on refusing until
//     the publisher has learned of it: a leader election (4 s at the least) is
//     longer than the acknowledgement timeout (3 s); to a publisher that has had no
//     answer yet a fault may end at any time: streams are created while it starts;
//   - what a server still has of a dead connection is handled, and its answer arrives, within 20 s each.
//
// That no new message is taken for a redelivered one needs this (bridge/DESIGN.md,
// "Redelivery"):
//
//   - a broker that is set back to a snapshot gets one message without DUP through before
//     its connection dies again;
//   - before packet ids come round to the latest ones, a second passes in which the broker
//     answers a ping; and a bridge that is started while another process had its
//     session has been away for a minute.
//
// And look-ups need this (bridge/DESIGN.md, "What JetStream has forgotten"): that the clocks of broker
// and bridge differ by less than a minute, those of a cluster's servers by a few seconds; how
// far NATS and the bridge differ does not matter. Only a leader that has applied its log answers.
//
// And a second copy in the stream is no fault where docs/guarantees.md says that there
// can be one: the first was purged before the bridge knew of it, a bridge without state on disk
// was killed, or no rule can tell whether a message was redelivered (broker.excuse). That the
// duplicate window has closed is no excuse.
package simulate
