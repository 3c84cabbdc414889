// Package quarantine replays messages from quarantine, the dead-letter stream: it re-validates them
// by the present configuration and publishes those that now pass to their streams.
//
// A replayed message has its own id and is stored in its stream once, however often a replay is run
// and wherever it was killed:
//
//   - before anything is published, a claim in the quarantine stream names the ids;
//   - messages that JetStream has acknowledged are deleted from quarantine, then the claim;
//   - a claim found at the start names messages that an earlier run may have stored and not deleted.
//     JetStream's own memory of ids has a window of minutes; the claim has none, so
//     its ids are looked for in the streams.
package quarantine
