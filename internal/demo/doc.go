// Package demo shows the whole job with nothing installed: devices with
// certificates, an MQTT broker that attests their topics, the bridge, and a
// nats-server with JetStream, all in this process but over real sockets and real
// TLS.
//
// A few devices misbehave, each in its own way, so that every kind of quarantine
// can be seen. At the end the demo reconciles the counts: the messages
// acknowledged to the devices, counted by the bridge and stored in the streams
// must agree exactly.
//
// The way through the files: [Run] in demo.go starts a rig (rig.go) and a fleet
// (cast.go, fleet.go), prints what to try (intro.go) and shows how it
// goes (view.go: watch.go, table.go); then settle.go, account.go and
// summary.go.
package demo
