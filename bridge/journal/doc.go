// Package journal records what a lane received in its MQTT session: the latest QoS 1
// deliveries in order, each with its packet id, a hash of its content, the number in its
// message id and whether it is stored, and how far PUBACKs may have been written.
//
// From it the lane recognizes a redelivery, which must keep its message id. A number is
// never assigned twice, even if the file was lost, set back or copied: that would be a
// false duplicate, and a false duplicate is a lost message.
//
// A journal with a file ([Open]) outlives the process. kill -9 loses nothing, because the
// writes are stores to mapped memory, which the kernel keeps. A journal that cannot be the
// latest one (another boot, a copy put back) is forgotten.
//
// The package records and compares; the rules of redelivery are in the lane
// (bridge/redelivery.go). bridge/DESIGN.md has the reasons: Message ids, Redelivery, The
// journal's file.
package journal
