//go:build !linux

package peers

import "syscall"

// dieWithParent has no effect on this platform: peers outlive a killed test binary.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

// awaitStopped does not wait on this platform.
func awaitStopped(int) error { return nil }
