// Package brokers has the tests of what brokers do: order, redelivery, packet ids, malformed packets,
// outages; on mosquitto, RabbitMQ, nats-server and a scripted broker.
package brokers
