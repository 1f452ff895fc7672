package main

import (
	"os"
	"syscall"
)

// syncData makes a file's data permanent, as bbolt does it.
func syncData(file *os.File) error { return syscall.Fdatasync(int(file.Fd())) }
