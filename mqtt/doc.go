// Package mqtt is one MQTT 3.1.1 session towards the broker: a fixed client id,
// clean session false, subscriptions at QoS 1.
//
// paho.mqtt.golang does CONNECT, SUBSCRIBE, keep-alive and DISCONNECT. What costs
// per message does not pass through it: the connection that paho is given is a
// tap, which hands PUBLISH to a [bridge.Receiver] and writes the PUBACKs.
//
// A [Session] connects by itself, again and again, until it is closed. Each
// connection gets a paho client of its own: paho's automatic reconnect hides the
// session-present flag and calls its handlers from loose goroutines, so that
// nothing could be fenced on them, while a new client is a new generation.
package mqtt
