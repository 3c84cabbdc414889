// Package bench measures the bridge. A bridge process runs between a load generator with a minimal
// MQTT implementation and a nats-server process. For comparison, a bare publisher stores the same
// messages. The bench prints the figures of one run on one machine; the ratios are more reliable
// than the absolute figures.
package bench
