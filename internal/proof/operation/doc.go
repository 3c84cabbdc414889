// Package operation has the tests of what operators and consumers do: ingest, replay, limits and
// revocations, permissions, the documented commands.
package operation
