// Package operation tests ingest, replay, limits, revocations, permissions and the documented
// commands.
package operation
