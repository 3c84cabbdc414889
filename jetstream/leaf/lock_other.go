//go:build !unix

package leaf

import "os"

// lockStore does nothing: this platform cannot exclude a second process.
func lockStore(string) (*os.File, error) { return os.Open(os.DevNull) }
