// Package screen draws on a terminal: lines that are replaced in place, below what was
// there or on the whole of it, with what a table needs to fit: widths and clipping that
// know wide letters, grouped digits, text without control characters.
package screen
