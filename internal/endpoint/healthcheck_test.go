package endpoint

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestListenAddressesAreAskedOnThisMachine(t *testing.T) {
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
