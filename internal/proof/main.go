package proof

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// outcome is printed when all tests of a package are done: the one thing that outlives a test.
var outcome report

// Report enters what became of a load in the table that is printed at the end.
func Report(fault, load string, v Verdict) { outcome.add(fault, load, v) }

// Main runs the tests of a package and prints the table.
func Main(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		fmt.Print(&outcome)
		os.Exit(code)
	}))
}
