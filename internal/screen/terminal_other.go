//go:build !unix

package screen

import "os"

// terminalSize is not supported on this platform and returns false.
func terminalSize(*os.File) (columns, rows int, ok bool) { return 0, 0, false }
