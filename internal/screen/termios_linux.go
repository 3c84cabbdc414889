package screen

import "golang.org/x/sys/unix"

const (
	getTermios, setTermios = unix.TCGETS, unix.TCSETS

	vdisable = 0 // disables a control character
)
