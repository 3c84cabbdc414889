// Package demo runs a complete system without any installation: devices with certificates, an MQTT
// broker that attests their topics, the bridge, and a nats-server with JetStream. All run in this
// process, over real sockets and real TLS.
//
// Each misbehaving device provokes a different reason for quarantine. At the end, the demo reconciles
// its counts: the messages acknowledged to the devices, counted by the bridge and stored in the
// streams must match exactly.
//
// Read the files in this order: [Run] in demo.go starts a rig (rig.go) and a fleet (cast.go,
// fleet.go), prints an introduction (intro.go) and shows the progress (view.go, watch.go, table.go).
// Then settle.go, account.go and summary.go reconcile the counts.
package demo
