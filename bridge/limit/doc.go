// Package limit has the limits that may change while lanes run, and the tables that apply
// them: a rate for each device and for each tenant, a bound on each device's messages in
// quarantine, and a bound on the number of subjects under which a device publishes.
//
// It guarantees that a device within its rate and burst is never refused for it, whatever
// outage delayed its messages, in whatever order lanes deliver a backlog, and whatever clock
// of a broker node is wrong; and that the excess of another is. A changed limit gives nothing
// away: what was spent remains spent. A message costs a lock of one of 64 shards and no
// allocation; a million devices cost less than 96 MB.
//
// [Live] has the limits in force, [Budgets] the devices or tenants with their counts,
// [CatchUp] the credit of a lane on plain topics after an outage. bridge/DESIGN.md has the
// reasons: Rate, The device table, Limits that change.
package limit
