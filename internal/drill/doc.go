// Package drill is the body of the command drill: it has a fleet of simulated devices
// publish through a broker and a bridge that are there already, while an operator breaks
// things, and reconciles every PUBACK with what the streams contain.
//
// The way through the files: [Run] in drill.go connects NATS and the fleet (options.go,
// identity.go, load.go), follows the streams (reader.go, intake.go), lets devices
// misbehave (burst.go, hijack.go, impostor.go, will.go), shows how it goes (view.go,
// table.go), waits for stragglers (view.go) and reports (report.go, text.go).
package drill
