// Package limit implements the limits that may change while lanes run: a rate for each device and
// each tenant, a bound on each device's quarantined messages, and a bound on the number of subjects
// per device.
//
// A device within its rate and burst is never rejected for its rate. That is guaranteed whatever
// outage delayed its messages, in whatever order lanes deliver a backlog, and whichever broker
// node's clock is wrong. Messages beyond the limit are rejected. When a limit changes, spent budget
// remains spent. A message costs a lock of one of 64 shards and no allocation; a million devices
// cost less than 96 MB.
//
// [Live] has the current limits, [Budgets] the devices or tenants with their counts, [CatchUp] the
// credit of a lane on plain topics after an outage. bridge/DESIGN.md explains the decisions: Rate,
// The device table, Limits that change.
package limit
