//go:build !linux

package main

import "os"

// syncData makes a file's data permanent, as bbolt does it.
func syncData(file *os.File) error { return file.Sync() }
