// Package reconcile compares the PUBACKs that publishers received with the contents of the streams,
// message by message.
//
// A message is identified by its device and a sequence number from 0. Each message must have at
// least as many copies as PUBACKs, and at most as many copies as it was published. The first copies
// of a device must be in the order in which they were published. A message without a PUBACK may be
// stored or not. A copy in quarantine counts as a copy: the message is rejected, not lost.
package reconcile
