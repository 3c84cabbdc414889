// Package hostile has the tests of devices, brokers and NATS servers that attack, and of what a bridge
// with attested topics refuses.
package hostile
