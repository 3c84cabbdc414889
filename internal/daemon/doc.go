// Package daemon puts the bridge together from its configuration: the NATS
// connections, the streams, and for each lane its journal, publisher and MQTT
// session; and takes it apart again in the right order.
package daemon
