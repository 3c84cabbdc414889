//go:build !linux

package peers

import "syscall"

// dieWithParent can do nothing here: a killed test binary leaves its peers.
func dieWithParent() *syscall.SysProcAttr { return nil }

// awaitStopped trusts that the signal takes effect soon.
func awaitStopped(int) error { return nil }
