// Package brokers tests the bridge with mosquitto, RabbitMQ, nats-server and a scripted broker:
// order, redelivery, packet ids, malformed packets and outages.
package brokers
