//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// armed is the point at which the process kills itself, and how often it is passed before. INTEGRATOR_FAILPOINT is "name" or "name:n", which
// is the nth time.
var (
	armed string
	left  atomic.Int64
)

func init() {
	text := os.Getenv("INTEGRATOR_FAILPOINT")
	if text == "" {
		return
	}
	name, times, counted := strings.Cut(text, ":")
	n, err := strconv.ParseInt(times, 10, 64)
	if !counted {
		n, err = 1, nil
	}
	if err != nil || n < 1 || !slices.ContainsFunc(Points, func(p Point) bool { return p.Name == name }) {
		panic(fmt.Sprintf("INTEGRATOR_FAILPOINT=%q is no point of package failpoint", text))
	}
	armed = name
	left.Store(n)
}

// Hit kills the process, as SIGKILL does, when it is armed for this point and this time.
func Hit(name string) {
	if name != armed || left.Add(-1) != 0 {
		return
	}
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		self.Kill()
	}
	select {} // until it is dead
}
