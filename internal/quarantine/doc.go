// Package quarantine replays messages from quarantine, the dead-letter stream. It re-validates them with
// the current configuration and publishes those that now pass to their streams.
//
// A replayed message keeps its id and is stored in its stream exactly once, even if a replay is repeated
// or killed at any point:
//
//   - Before it publishes messages, a replay stores a claim with their ids in the quarantine stream.
//   - It deletes messages that JetStream has acknowledged from quarantine, and then the claim.
//   - A claim found at the start contains messages that an earlier replay may have stored but not
//     deleted. JetStream's deduplication window may have passed, so the replay searches the streams
//     for their ids.
package quarantine
