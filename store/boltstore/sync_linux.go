package boltstore

import (
	"os"
	"syscall"
)

// syncData makes what was written to a file durable, without times that nobody asks for: where the file has all of its blocks, it is one
// write of the disk.
func syncData(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
