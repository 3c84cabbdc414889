//go:build !unix

package demo

import "os"

// terminalSize finds no terminal: the demo prints lines.
func terminalSize(*os.File) (columns, rows int, ok bool) { return 0, 0, false }
