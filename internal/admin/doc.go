// Package admin is the bridge's HTTP endpoint for operators and their tools:
//
//	/                           a page for browsers; a list of these paths for others
//	/livez                      200 while the process serves
//	/readyz                     200, or 503 with what is in the way
//	/metrics                    for Prometheus
//	/status                     everything about lanes and streams, as JSON
//	/devices?top=20&by=rejected the devices with the most messages
//	/devices/{tenant}/{device}  one device
//	/debug/pprof/               only where the address is loopback
//
// It reads and changes nothing. It has no authentication: anyone who reaches the
// address sees device names and counts, never a payload or a secret.
package admin
