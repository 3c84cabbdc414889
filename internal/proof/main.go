package proof

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// outcome is printed after all tests of a package. It is the only state that outlives a test.
var outcome report

// Report adds the verdict on a load to the table that is printed at the end.
func Report(fault, load string, v Verdict) {
	outcome.mu.Lock()
	defer outcome.mu.Unlock()
	outcome.rows = append(outcome.rows, row{fault, load, v})
}

// Main runs the tests of a package, then prints the table.
func Main(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		fmt.Print(&outcome)
		os.Exit(code)
	}))
}
