// Package screen draws on a terminal. It replaces lines in place, below the existing text or on the
// whole terminal. It also formats text for tables: widths and clipping with support for wide
// characters, grouped digits, and removal of control characters.
package screen
