// Package lease distributes partitions among the replicas of a bridge, so that one replica at a
// time is connected under a partition's client id.
//
// It has three parts:
//
//   - a view of the KV bucket (view.go): the keys that were seen, their age, and which replicas may
//     be given partitions. The bucket (bucket.go) is followed with jetstream/kv.
//   - an assigner (assign.go), a pure function of the view. Every replica computes the same
//     distribution from the same keys, so there is no leader.
//   - the loop of a [Coordinator] (coordinator.go), one goroutine, that acquires, renews, hands over
//     and releases the leases of its replica (lease.go, moves.go), and probes the broker where it
//     has none (probe.go).
//
// # What a lease is
//
// A key with a time to live, written by compare-and-set on its revision: of two replicas that write
// at the same time one succeeds. The TTL of the bucket is the lifetime of every lease.
//
// The lease is not a fencing token. The broker fences: it keeps one connection per client id and
// closes the older one. The lease adds that the replica that lost does not reconnect: a session
// calls [Lease.WaitToConnect] before each connection except its first, and WaitToConnect renews the
// lease.
//
// # States
//
//	┌──────────┐    acquire      ┌────────┐  hand over   ┌──────────┐
//	│   free   │ ──────────────> │ leased │ ───────────> │ draining │
//	└──────────┘ <──────┐        └────────┘              └──────────┘
//	      ^             │             │ lose                   │
//	      │             │             v                        │
//	      │ lane closed │        ┌────────┐                    │
//	      │             └─────── │ losing │                    │
//	      │                      └────────┘                    │
//	      └──────────── lane closed, lease released ───────────┘
//
// The transitions:
//
//   - acquire: the partition is in this replica's share, and released or expired.
//   - hand over: it is in another replica's share, or this replica stops.
//   - lose: another replica has the lease, or may have it when the session wants to connect again.
//
// The states:
//
//   - leased: renewed three times per TTL. The lane is open.
//   - draining: the lane stops taking messages and waits for those in flight, DrainTimeout at most. The
//     lease is renewed until then and released afterwards, so that its successor need not wait for
//     the TTL.
//   - losing: the lane is closed as it is. The broker redelivers unacknowledged messages to the new owner. The lease is no longer written.
//
// No lease is taken from a live owner: a replica with more than its share releases, one with less
// acquires what is free.
//
// # Trust window
//
// A replica decides by its own clock only about its own leases, and counts from before the write
// was sent: for the TTL from then on no other replica can have acquired it. Expiry of other
// replicas' keys is counted from when the bucket showed them, which is never too early; a write over
// a key that the server has not expired yet fails and is tried again after 500 ms.
//
// If a process was suspended for longer than the TTL, the state of its leases is unknown until all
// of them are confirmed or their lanes are closed. Until then [Lease.Fenced] is true: the session
// processes nothing that it has read from the broker and sends nothing to JetStream again. Another
// replica may have stored it before the duplicate window.
//
// # What happens on each failure
//
//   - The bucket cannot be reached (an error, no answer for a fifth of the TTL, no more changes from it): all
//     lanes stay open and connected. It is opened again after 1 s or a tenth of the TTL, whichever is
//     shorter. A session whose connection ends may connect again while its lease cannot have
//     expired; afterwards its lane is closed. A bucket that merely has to be read again, after a
//     reconnect say, is opened again immediately.
//   - The bucket is back: for one TTL a replica acquires only what it lost by expiry itself, and what
//     was released. All leases may have expired; the first replica back must not take everything.
//     After the start of a replica the same applies for a tenth of the TTL.
//   - The lease expired while the bucket could not be reached: if the lane is connected, no other
//     replica has acquired it, or the broker would have closed the connection: it is written again.
//     If not, the lease is lost.
//   - A write fails although it was stored: the key names this replica, and is written again over
//     its present revision.
//   - A replica dies: its own key expires first, then its leases; the others acquire them. The broker
//     keeps the sessions.
//   - A replica reaches NATS but not the broker: after 15 s (or the TTL, if longer) it gets no share,
//     provided that another has been connected for 45 s (or two TTLs) without a break. In an outage
//     of the broker none has been, and nothing moves. It gets a share again after 45 s of
//     connection, by its lanes or, without any, by a probe once per TTL (probe.go). One that never
//     was connected gets no share beside others that are.
//   - The probe succeeds and the lanes do not: the assignment has failed. From the second in a row on
//     the replica leaves the broker to the others for 2 min, doubled each time up to 30 min, as long
//     as another has it. A lane that connects ends the back-off.
//   - The bucket is deleted: it is created again where Create is set, and all leases are written
//     again. A bucket without a TTL from 1 s to 1 h is refused.
//
// bridge/DESIGN.md, "Replicas", has the reasons and the alternatives.
package lease
