// Package journal records what a lane received in its MQTT session: the latest QoS 1 deliveries, in
// order. Each entry has the packet id, a hash of the content, the number in the message id, and
// whether the message is stored. The journal also records up to which delivery PUBACKs may have
// been written.
//
// The lane uses it to recognize redeliveries, which must keep their message id. A number is never
// assigned twice, even if the file was lost, restored to an earlier state or copied. A reused
// number would be a false duplicate, and JetStream discards duplicates: the message would be lost.
//
// A journal with a file ([Open]) outlives the process. kill -9 loses nothing, because writes are
// stores to mapped memory, which the kernel keeps. A journal that may be outdated (the machine was
// rebooted, or the file is a copy) is discarded.
//
// This package records and compares. The rules of redelivery are in the lane
// (bridge/redelivery.go). bridge/DESIGN.md explains the decisions: Message ids, Redelivery, The
// journal's file.
package journal
