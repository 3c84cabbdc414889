package daemon

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The hub's streams are looked at every half minute: what is wrong with them has
// been so since it was seen first.
func TestWhatIsWrongWithTheHubsStreamsKeepsItsBeginning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &leafUnit{}
		began := time.Now()
		u.contradicted(errors.New("they do not source from here"))
		time.Sleep(streamsAgain)
		u.contradicted(errors.New("they do not source from here"))
		require.Equal(t, began, u.problems()[0].Since)
		u.contradicted(nil)
		require.Empty(t, u.problems())
		u.contradicted(errors.New("they do not source from here"))
		require.Equal(t, time.Now(), u.problems()[0].Since)
	})
}
