package consume

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Another process may have quarantined a message that this one could not. This one must not report
// the problem forever.
func TestProblemExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []error
		c := problemState{hook: func(err error) { told = append(told, err) }}
		away := errors.New("quarantine is unreachable")
		c.set(away)
		for range 10 { // the same message several times
			time.Sleep(retryMax)
			c.expire(problemExpiry)
			c.set(away)
		}
		_, problem := c.current()
		require.Equal(t, away, problem)
		time.Sleep(problemExpiry)
		c.expire(problemExpiry)
		require.Len(t, told, 1)
		time.Sleep(pollInterval)
		c.expire(problemExpiry)
		_, problem = c.current()
		require.NoError(t, problem)
		require.Equal(t, []error{away, nil}, told)
	})
}
