// Package testrun configures the test runs of packages whose tests wait for events.
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

// Timeout bounds every wait. It only determines how long a failing test takes. It grows with the load of
// the machine, from 2 minutes on an idle machine to at most 8 minutes.
var Timeout = bound(loadAverage())

// FaultsVariable is the environment variable that enables the full fault tests if it is 1: outages of a
// minute, all brokers of the matrix, hundreds of thousands of messages. `make faults` and CI set it.
const FaultsVariable = "BRIDGE_FAULTS"

// Quick reports whether a test that takes a minute or more should run in its short form.
func Quick() bool { return testing.Short() || os.Getenv(FaultsVariable) != "1" }

// SkipQuick skips a test that takes a minute or more if Quick is true. why is the reason for its
// duration.
func SkipQuick(t testing.TB, why string) {
	t.Helper()
	if Quick() {
		t.Skip(why + "; " + FaultsVariable + "=1 runs it")
	}
}

// Address reserves a free port of 127.0.0.1 until the test ends, for a server that needs a fixed port or
// the same port after a restart.
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

// loadAverage returns the average number of runnable tasks in the last minute, or 0 if the system does
// not report it.
func loadAverage() (load float64) {
	text, _ := os.ReadFile("/proc/loadavg")
	_, _ = fmt.Sscan(string(text), &load)
	return load
}

// Packages that wait for events run sixteen tests in parallel, because the default of `go test`, the
// number of processors, would leave these idle. Full fault tests load the processors, so they run only
// eight in parallel; otherwise brokers and servers exceed their own timeouts. -parallel overrides both.
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
