// Package mqtt maintains one persistent MQTT 3.1.1 session with the broker: a fixed client id,
// clean session false, subscriptions at QoS 1.
//
// paho.mqtt.golang does CONNECT, SUBSCRIBE, keep-alive and DISCONNECT. Its message path is too
// expensive. Paho's connection is therefore a tap, which passes each PUBLISH to a [bridge.Receiver]
// and writes the PUBACKs.
//
// A [Session] reconnects until it is closed. Each connection uses a new paho client. Paho's
// automatic reconnect is not used: it hides the session-present flag and calls its handlers from
// unowned goroutines, so PUBACKs could not be bound to a connection.
package mqtt
