// Package fleet simulates devices. They are MQTT 3.1.1 clients that publish at QoS 1 within an
// in-flight window and reconnect with back-off. After a reconnect they resend unacknowledged messages
// with DUP and the same packet id (§4.4).
//
// A [Device] reports every PUBLISH that it writes and every PUBACK that it receives, so that a caller
// can reconcile them with the messages received elsewhere.
package fleet
