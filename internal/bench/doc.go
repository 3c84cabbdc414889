// Package bench measures the bridge: a real bridge process between a load that
// speaks just enough MQTT and a nats-server in a process of its own, beside a
// bare publisher that does nothing but store the same messages. It prints
// the figures of one run on one machine; the ratios are more reliable than the times.
package bench
