// Package fleet simulates devices: MQTT 3.1.1 clients that publish at QoS 1 within an
// in-flight window, reconnect with back-off and send again, with DUP and under the same
// packet id, what had no PUBACK (§4.4).
//
// A [Device] reports every PUBLISH that it writes and every PUBACK that it gets, so that
// a caller can reconcile them with what arrived elsewhere.
package fleet
