// Package streams simulates JetStream and the connections to it, for package simulate: two streams
// that start and stop taking messages together, and for each bridge a [Client] whose [Link] takes the place
// of nats.go.
//
//   - link.go: a bridge's connections, what is on the wire, and the answers
//   - server.go: what the streams store, and how they answer
//   - fault.go: streams that take nothing, and leaders that die
//   - lookup.go: what the streams answer when they are asked
//
// Nothing happens by itself: every step is a call of the simulation.
package streams
