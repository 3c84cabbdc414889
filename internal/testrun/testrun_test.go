package testrun

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBound(t *testing.T) {
	cores := float64(runtime.NumCPU())
	require.Equal(t, 2*time.Minute, bound(0))
	require.Equal(t, 2*time.Minute, bound(cores))
	require.Equal(t, 3*time.Minute, bound(1.5*cores))
	require.Equal(t, 8*time.Minute, bound(100*cores))
}
