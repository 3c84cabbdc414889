package proof

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// outcome is printed when all tests of a package are done: the one thing that outlives a test.
var outcome report

// Report enters what became of a load in the table that is printed at the end.
func Report(fault, load string, v Verdict) { outcome.add(fault, load, v) }

// Main runs the tests of a package, looks for leaked goroutines and prints the table.
func Main(m *testing.M) {
	flag.Parse()
	// Most tests wait for outages to pass: as many at a time as there are
	// processors would leave these idle.
	if !isSet("test.parallel") {
		if err := flag.Set("test.parallel", "8"); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		fmt.Print(&outcome)
		os.Exit(code)
	}))
}

func isSet(name string) (set bool) {
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}
