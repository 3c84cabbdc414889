package page

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// counted is a program that counts its requests.
type counted struct{ measures, views atomic.Int64 }

func (c *counted) Measures() []Measure {
	return []Measure{{Chart: "Messages", Name: "stored", Value: float64(10 * c.measures.Add(1))}}
}

func (c *counted) View(context.Context, *History) View {
	c.views.Add(1)
	return View{Program: "<script>"}
}

func TestPage(t *testing.T) {
	t.Parallel()
	t.Run("many viewers cost one view per second", testManyViewersCostOneViewPerSecond)
	t.Run("sampling ends with its context", testSamplingEndsWithItsContext)
}

func testManyViewersCostOneViewPerSecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &counted{}
		p := New(source)
		mux := http.NewServeMux()
		p.Routes(mux)
		var viewers sync.WaitGroup
		for range 100 {
			viewers.Go(func() {
				for range 10 {
					w := httptest.NewRecorder()
					mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/page/view", nil))
					require.Equal(t, http.StatusOK, w.Code)
					require.NotContains(t, w.Body.String(), "<script>")
					time.Sleep(500 * time.Millisecond)
				}
			})
		}
		viewers.Wait()
		require.LessOrEqual(t, source.views.Load(), int64(6))
	})
}

func testSamplingEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &counted{}
		p := New(source)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Second)
		defer cancel()
		p.Sample(ctx)
		require.EqualValues(t, 31, source.measures.Load())
		require.InDelta(t, 5, p.History().Rate("Messages", "stored"), 1e-9)
	})
}
