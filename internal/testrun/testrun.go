// Package testrun sets up the test runs of packages whose tests wait for events.
package testrun

import (
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"mqtt-nats-bridge/internal/port"
)

// Timeout bounds every wait. It decides only how long a failure takes, and grows with the
// load of the machine: 2 minutes where a core is free, 8 minutes at most.
var Timeout = bound(loadAverage())

// FaultsVariable set to 1 runs every fault in full: outages of a minute, all brokers of
// the matrix, hundreds of thousands of messages. `make faults` and CI set it.
const FaultsVariable = "BRIDGE_FAULTS"

// Quick reports whether to run the short form of a test that takes a minute or more.
func Quick() bool { return testing.Short() || os.Getenv(FaultsVariable) != "1" }

// SkipQuick skips a test that takes a minute or more, and says why it does.
func SkipQuick(t testing.TB, why string) {
	t.Helper()
	if Quick() {
		t.Skip(why + "; " + FaultsVariable + "=1 runs it")
	}
}

// Address reserves a free port of 127.0.0.1 until the test has ended, for a server that is told its port, or
// gets the same one after a restart.
func Address(t testing.TB) *net.TCPAddr {
	t.Helper()
	addr, release, err := port.Reserve()
	if err != nil {
		t.Fatalf("reserve a port: %v", err)
	}
	t.Cleanup(release)
	return addr
}

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

// A package that waits for events runs sixteen tests at a time: as many as there are processors, the
// default of `go test`, would leave these idle. Faults in full put a load on them: eight, or brokers
// and servers are too slow for their own time-outs. -parallel sets another number.
func init() {
	parallel := "16"
	if os.Getenv(FaultsVariable) == "1" {
		parallel = "8"
	}
	testing.Init() // registers the flag; it is parsed later
	if err := flag.Set("test.parallel", parallel); err != nil {
		panic(err)
	}
}
