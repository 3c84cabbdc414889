// Package bench measures the bridge: a real bridge process between a load that
// speaks just enough MQTT and a nats-server in a process of its own, beside a
// bare publisher that does nothing but store the same messages. What it prints
// are figures of one run on one machine; the ratios hold better than the times.
package bench
