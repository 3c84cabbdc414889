package endpoint

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHealthcheckAddress(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{
		"127.0.0.1:9464": "127.0.0.1:9464",
		"0.0.0.0:9464":   "127.0.0.1:9464",
		"[::]:9464":      "127.0.0.1:9464",
		":9464":          "127.0.0.1:9464",
		"[::1]:9464":     "[::1]:9464",
		"10.1.2.3:9464":  "10.1.2.3:9464",
		"localhost:9464": "localhost:9464",
	} {
		got, err := dialable(listen)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, listen := range []string{"", "9464", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:", "::1:9464"} {
		require.ErrorContains(t, Healthcheck(t.Context(), "ingest", listen), "admin.listen", listen)
	}
}

func TestHealthcheckDistinguishesAnotherServer(t *testing.T) {
	t.Parallel()
	for _, answer := range []http.HandlerFunc{
		http.NotFound,
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) },
		func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(strings.Repeat(" ", 2<<20))) },
	} {
		other := httptest.NewServer(answer)
		err := Healthcheck(t.Context(), "ingest", strings.TrimPrefix(other.URL, "http://"))
		other.Close()
		require.ErrorContains(t, err, "admin.listen")
		require.NotErrorIs(t, err, ErrNotReady)
	}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = w.Write([]byte(`{"ready":true}`))
	}))
	defer other.Close()
	require.Error(t, Healthcheck(t.Context(), "ingest", strings.TrimPrefix(other.URL, "http://")))
}

func TestHealthcheckContext(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, Healthcheck(ctx, "ingest", silent.Addr().String()), context.Canceled)
}
