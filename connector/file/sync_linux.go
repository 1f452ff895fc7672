//go:build !arm

package file

import (
	"os"
	"syscall"
)

// beginSync has the system begin to write a part of a file to the disk, and does not wait for it. It promises nothing: a sync comes later.
func beginSync(f *os.File, offset, length int64) {
	if c, err := f.SyscallConn(); err == nil {
		const write = 2 // SYNC_FILE_RANGE_WRITE
		c.Control(func(fd uintptr) { syscall.SyncFileRange(int(fd), offset, length, write) })
	}
}
