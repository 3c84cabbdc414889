// Package hostile tests attacks by devices, brokers and NATS servers, and the messages that a
// bridge with attested topics rejects.
package hostile
