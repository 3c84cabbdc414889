// Package emqx has the tests of what EMQX does, on the embedded broker; the rows are in docs/emqx.md.
package emqx
