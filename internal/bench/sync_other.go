//go:build !linux

package main

import (
	"os"
	"time"
)

func syncData(file *os.File) error { return file.Sync() }

// processorTime is not known here.
func processorTime() time.Duration { return 0 }
