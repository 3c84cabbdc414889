// Package admin is the bridge's HTTP endpoint for operators and their tools:
//
//	/                           a page for browsers; a list of these paths for others
//	/livez                      200 while the process serves requests
//	/readyz                     200, or 503 with the problems
//	/metrics                    for Prometheus
//	/status                     everything about lanes and streams, as JSON
//	/devices?top=20&by=rejected the devices with the most messages
//	/devices/{tenant}/{device}  one device
//	/debug/pprof/               only on a loopback address
//
// The endpoint is read-only and has no authentication. Anyone who can reach the address can read
// device names, topics and counts, but no payload or secret.
package admin
