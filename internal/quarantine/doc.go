// Package quarantine takes messages out of quarantine again: it judges them by the
// configuration as it is now and moves those that pass to where they would have gone.
//
// A replayed message has its own id and stands in its stream once, however often a
// replay is run and wherever it was killed:
//
//   - before anything is published, a claim in the quarantine stream names the ids;
//   - what JetStream has acknowledged is deleted from quarantine, then the claim is;
//   - a claim that is found names what a run before may have stored and not deleted.
//     JetStream's own memory of ids has a window of minutes; the claim has none, so
//     its ids are looked for in the streams.
package quarantine
