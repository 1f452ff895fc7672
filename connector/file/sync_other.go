//go:build !linux || arm

package file

import "os"

// beginSync does nothing where there is no call for it.
func beginSync(*os.File, int64, int64) {}
