package top

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFetchErrors(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/other/page/view", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") })
	mux.HandleFunc("/proxy/page/view", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"program":"ingest","charts":[{"series":[{"values":[null,1]}]}]}`)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	at := func(address string) *url.URL {
		u, err := url.Parse(address)
		require.NoError(t, err)
		return u
	}
	for name, test := range map[string]struct{ address, want string }{
		"nobody":          {"http://user:secret@127.0.0.1:1", "no answer from http://user:xxxxx@127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused"},
		"another program": {server.URL, "answered with 404 Not Found; check that it is an admin endpoint"},
		"no JSON":         {server.URL + "/other", "did not answer with a view"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := fetch(t.Context(), at(test.address))
			require.ErrorContains(t, err, test.want)
		})
	}
	v, err := fetch(t.Context(), at(server.URL+"/proxy/"))
	require.NoError(t, err)
	require.Equal(t, "ingest", v.Program)
}

func TestShowWithoutTerminal(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"program":"ingest","ready":true}`)
	}))
	t.Cleanup(server.Close)
	base, err := url.Parse(server.URL)
	require.NoError(t, err)
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = out.Close() })
	require.NoError(t, Show(t.Context(), Options{URL: base, In: out, Out: out}))
	printed, err := os.ReadFile(out.Name())
	require.NoError(t, err)
	require.Equal(t, "ingest: ready |  on  | 00:00:00 UTC\n", string(printed))
}
