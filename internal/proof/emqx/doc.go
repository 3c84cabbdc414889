// Package emqx tests the behaviour of EMQX on the embedded broker; the rows are in docs/emqx.md.
package emqx
