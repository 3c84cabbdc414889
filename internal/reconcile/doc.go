// Package reconcile compares what publishers got PUBACKs for with what the streams
// contain, message by message.
//
// A message is named by its device and a sequence number from 0. The rule: of each
// message at least as many copies as it got PUBACKs, and at most as many as it was
// published; the first copies of a device in the order in which they were published. A
// message without a PUBACK may be stored or not. A copy in quarantine is a copy: the
// message is refused, not lost.
package reconcile
