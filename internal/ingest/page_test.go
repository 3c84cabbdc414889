package ingest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/browsertest"
	"mqtt-nats-bridge/internal/endpoint"
	"mqtt-nats-bridge/internal/golden"
)

// Ingest has the page that the bridge has, about its tables.
func TestPageInABrowser(t *testing.T) {
	t.Parallel()
	b := browsertest.Start(t)
	r := newRig(t, sharedPostgres(t))
	i := r.ingest()
	s, err := endpoint.Open("127.0.0.1:0", i, zerolog.Nop())
	require.NoError(t, err)
	t.Cleanup(s.Close)
	for n := range 300 {
		if golden.Update() {
			time.Sleep(200 * time.Millisecond) // a minute for the charts of the picture
		}
		r.publish(telemetry(fmt.Sprint("m", n), `{"n":1}`))
	}
	r.publish(telemetry("bad", "not JSON"))
	b.Size(1200, 700)
	b.Open("http://" + s.Addr() + "/")
	b.Wait(`/telemetry\s+TELEMETRY\/ingest-workers\s.*\s300\s/.test(document.querySelector("#tables").innerText)`, "the rows are not shown")
	require.Equal(t, "Ready", b.Text("#state"))
	require.Contains(t, b.Text("#charts"), "Lag")
	if golden.Update() {
		require.NoError(t, os.WriteFile(filepath.Join("..", "..", "docs", "images", "page-ingest.png"),
			browsertest.Small(t, b.Screenshot(1200, 900)), 0o644))
	}
	require.Equal(t, []string{s.Addr()}, b.Hosts())
	require.Empty(t, b.Errors())
}
