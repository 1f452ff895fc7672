package main

import (
	"os"
	"syscall"
	"time"
)

// syncData makes a file's data permanent, as bbolt does it.
func syncData(file *os.File) error { return syscall.Fdatasync(int(file.Fd())) }

// processorTime is how long the processors have worked for this process.
func processorTime() time.Duration {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage) // cannot fail
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
