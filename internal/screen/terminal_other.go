//go:build !unix

package screen

import "os"

// terminalSize finds no terminal.
func terminalSize(*os.File) (columns, rows int, ok bool) { return 0, 0, false }
