package mqtt

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/mqtt/dial"
)

// TestOtherEnd requires the protocol of the other end to be named, even if it sends nothing
// by itself.
func TestOtherEnd(t *testing.T) {
	t.Parallel()
	page := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(page.Close)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	nats := peers.Serve(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "INFO {\"server_id\":\"x\"}\r\n")
		_, _ = io.ReadFull(c, make([]byte, 10))
	})
	plain, deaf := peers.Mosquitto(t, peers.MosquittoOptions{}), peers.Serve(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	secured := mosquittoTLS(t, authority(t))
	at := func(url string) string { return url[strings.LastIndex(url, "/")+1:] }
	for name, c := range map[string]struct {
		server dial.Server
		cause  dial.Cause
		text   string
	}{
		"plain to TLS/mosquitto": {dial.Server{Address: secured.Addr}, dial.CauseTLSPort, "speaks TLS, which is not used here: it answers with TLS"},
		"plain to TLS/Go":        {dial.Server{Address: at(secure.URL)}, dial.CauseTLSPort, "it answers with TLS"},
		"TLS to plain/mosquitto": {dial.Server{Address: plain.Addr, TLS: true}, dial.CausePlain, "speaks MQTT without TLS"},
		"plain to NATS":          {dial.Server{Address: nats}, dial.CauseNotMQTT, "does not speak MQTT: it is a NATS server"},
		"TLS to NATS":            {dial.Server{Address: nats, TLS: true}, dial.CauseNotMQTT, "does not speak MQTT: it is a NATS server"},
		"TLS to HTTP":            {dial.Server{Address: at(page.URL), TLS: true}, dial.CauseNotMQTT, "does not speak MQTT: it is an HTTP server"},
		"TLS to silence":         {dial.Server{Address: deaf, TLS: true}, dial.CauseSilent, "accepts the connection but does not answer: no TLS handshake within 10s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := Reach(t.Context(), Options{Servers: []dial.Server{c.server}, ClientID: "bridge-0"})
			var problem *dial.Problem
			require.ErrorAs(t, err, &problem)
			require.Equal(t, c.cause, problem.Cause, "%v", err)
			require.ErrorContains(t, err, c.text)
			require.NotContains(t, err.Error(), "->")
		})
	}
}
