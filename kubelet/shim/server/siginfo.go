package server

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// childInfo is the beginning of siginfo_t as waitid(2) fills it on 64-bit Linux: signo, errno, code (in whichever order), padding, pid.
type childInfo struct {
	_   [3]int32
	_   int32
	Pid int32
}

// siginfoPid reads the process ID, which package unix keeps in an unnamed part of the structure.
func siginfoPid(info *unix.Siginfo) int {
	return int((*childInfo)(unsafe.Pointer(info)).Pid)
}
