// Package lease shares partitions out among the replicas of a bridge: who should
// hold what (share.go), what is known of the others (view.go), and the keeper that
// takes, renews, hands over and gives up (keeper.go, moves.go, hold.go), over a KV bucket
// (bucket.go).
//
// A lease is a key with a time to live, written by compare-and-set on its
// revision, so that of two replicas one gets it. It says who ought to be connected
// under a partition's client id. It does not fence: the broker does, which keeps one
// connection a client id and closes the older one. What the lease adds is that
// the loser does not connect again.
package lease
