// Package drill implements the command drill. A fleet of simulated devices publishes through an
// existing broker and bridge while an operator injects faults. At the end, every PUBACK is reconciled
// with the contents of the streams.
//
// Read the files in this order: [Run] in drill.go connects to NATS and connects the fleet
// (options.go, identity.go, load.go), reads the streams (reader.go, intake.go), runs misbehaving
// devices (burst.go, hijack.go, impostor.go, will.go), shows the progress (view.go, table.go), waits
// for late messages (view.go) and reports (report.go, text.go).
package drill
