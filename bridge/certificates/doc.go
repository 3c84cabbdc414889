// Package certificates keeps the devices' certificates in memory: a table by name that is
// read for each message without allocation, and [Live], in which a source replaces the table
// as a whole or changes single entries. It compares whole names: an unknown certificate is
// never taken for a known one. bridge/DESIGN.md, "Limits that change, certificates that are
// revoked", has the reasons.
package certificates
