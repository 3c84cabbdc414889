// Package port reserves ports for servers that tests and benchmarks start.
package port

import (
	"net"
	"os"
	"runtime"
	"syscall"
)

// Reserve reserves a free TCP port of 127.0.0.1 until release is called. A server can listen on it, also
// after a restart. While no server listens, connections are refused.
//
// Without a reservation, the kernel could assign the port to an outgoing connection before the server
// listens. Linux does not assign a port that a socket is bound to, even if that socket never listens. A
// server that sets SO_REUSEADDR can still listen on it. Other systems refuse that, so on them Reserve
// only returns a port that is currently free.
func Reserve() (addr *net.TCPAddr, release func(), err error) {
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socket", err)
	}
	release = func() { _ = syscall.Close(fd) }
	if addr, err = bind(fd); err != nil || runtime.GOOS != "linux" {
		release()
		release = func() {}
	}
	return addr, release, err
}

func bind(fd int) (*net.TCPAddr, error) {
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return nil, os.NewSyscallError("getsockname", err)
	}
	bound := name.(*syscall.SockaddrInet4)
	return &net.TCPAddr{IP: bound.Addr[:], Port: bound.Port}, nil
}
