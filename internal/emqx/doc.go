// Package emqx is a client for the part of EMQX's HTTP API (/api/v5) that the bridge
// uses: sessions and their queues, counters, subscriptions, listeners, configuration.
// It was written against EMQX 5.8.9.
package emqx
