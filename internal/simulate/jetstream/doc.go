// Package jetstream simulates JetStream and the connections to it, for package simulate. It has two
// streams that start and stop accepting messages together. Each bridge has a [Client], whose [Link]
// replaces nats.go.
//
//   - link.go: a bridge's connections, what is on the wire, and the answers
//   - server.go: what the streams store, and how they answer
//   - fault.go: streams that accept nothing, and leaders that die
//   - lookup.go: what the streams answer when they are asked
//
// Every step is a call of the simulation; nothing happens on its own.
package jetstream
