// Package mqtt is one persistent MQTT 3.1.1 session with the broker: a fixed client id, clean
// session false, subscriptions at QoS 1.
//
// paho.mqtt.golang does CONNECT, SUBSCRIBE, keep-alive and DISCONNECT. Messages do not pass through
// it, because of its cost: paho's connection is a tap, which passes each PUBLISH to a
// [bridge.Receiver] and writes the PUBACKs.
//
// A [Session] reconnects until it is closed. Each connection has a new paho client, which is a new
// generation: paho's automatic reconnect hides the session-present flag and calls its handlers from
// unowned goroutines, so that nothing could be fenced on them.
package mqtt
