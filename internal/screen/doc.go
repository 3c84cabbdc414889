// Package screen draws a live table on a terminal: lines that are replaced in place, with
// what a table needs to fit: clipped lines, grouped digits, text without control
// characters.
package screen
