// Package daemon assembles the bridge from its configuration: the NATS connections, the streams,
// and the journal, publisher and MQTT session of each lane. It also shuts them down in the right
// order.
package daemon
