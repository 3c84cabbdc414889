// Package testrun sets up the test runs of packages whose tests wait for events.
package testrun

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"time"
)

// Timeout bounds every wait. It decides only how long a failure takes, and grows with the
// load of the machine: 2 minutes where a core is free, 8 minutes at most.
var Timeout = bound(loadAverage())

func bound(load float64) time.Duration {
	perCore := load / float64(runtime.NumCPU())
	return min(time.Duration(max(perCore, 1)*float64(2*time.Minute)), 8*time.Minute)
}

// loadAverage returns the number of runnable tasks of the last minute, or 0 where the system does not
// report it.
func loadAverage() (load float64) {
	text, _ := os.ReadFile("/proc/loadavg")
	_, _ = fmt.Sscan(string(text), &load)
	return load
}

// Parallel runs eight tests at a time, for packages whose tests mostly wait for outages to pass: as many as
// there are processors, the default of `go test`, would leave these idle. TestMain calls it.
func Parallel() {
	flag.Parse()
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == "test.parallel" })
	if !set {
		if err := flag.Set("test.parallel", "8"); err != nil {
			panic(err)
		}
	}
}
