// Package certificates keeps the devices' certificates in memory. [Table] maps names to
// certificates and is read for each message without allocation. [Live] lets a source replace the
// table as a whole or change single entries. Whole names are compared, so an unknown certificate is
// never mistaken for a known one. bridge/DESIGN.md, "Limits that change, certificates that are
// revoked", explains the decisions.
package certificates
