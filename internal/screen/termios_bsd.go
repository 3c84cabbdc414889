//go:build unix && !linux

package screen

import "golang.org/x/sys/unix"

const (
	getTermios, setTermios = unix.TIOCGETA, unix.TIOCSETA

	vdisable = 0xff // disables a control character
)
