package proof

import (
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// seedVariable names the variable that repeats the random choices of an earlier run.
const seedVariable = "BRIDGE_PROOF_SEED"

// Random returns the source of a test's random choices and logs its seed.
func Random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv(seedVariable); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatalf("read %s: %v", seedVariable, err)
		}
	}
	t.Logf("%s=%d", seedVariable, seed)
	// Include the test's name, so that tests with the same seed make different choices.
	name := fnv.New64a()
	name.Write([]byte(t.Name()))
	return rand.New(rand.NewPCG(seed, name.Sum64()))
}
