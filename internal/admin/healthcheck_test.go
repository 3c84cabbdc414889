package admin

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/endpoint"
)

func TestListenerOnAllAddressesAnswers(t *testing.T) {
	t.Parallel()
	s := serve(t, away()...)
	open, err := Open(":0", s.bridge, zerolog.Nop())
	require.NoError(t, err)
	defer open.Close()
	require.ErrorIs(t, Healthcheck(t.Context(), open.Addr()), endpoint.ErrNotReady)
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
		err := Healthcheck(t.Context(), strings.TrimPrefix(other.URL, "http://"))
		other.Close()
		require.ErrorContains(t, err, "admin.listen")
		require.NotErrorIs(t, err, endpoint.ErrNotReady)
	}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = w.Write([]byte(`{"ready":true}`))
	}))
	defer other.Close()
	require.Error(t, Healthcheck(t.Context(), strings.TrimPrefix(other.URL, "http://")))
}

func TestHealthcheckEndsWithItsContext(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, Healthcheck(ctx, silent.Addr().String()), context.Canceled)
}
