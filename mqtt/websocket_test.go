package mqtt

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/mqtt/dial"
)

// webSocketProxy is a WebSocket server in front of a broker, which demands a path and a header.
func webSocketProxy(t *testing.T, broker string, conf *tls.Config) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RequestURI() != "/mqtt?v=1" || r.Header.Get("Authorization") != "Bearer x" {
			http.NotFound(w, r)
			return
		}
		upgrader := websocket.Upgrader{Subprotocols: []string{"mqtt"}}
		web, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer web.Close()
		conn, err := net.Dial("tcp", broker)
		if err != nil {
			return
		}
		defer conn.Close()
		go func() {
			b := make([]byte, 1000)
			for {
				n, err := conn.Read(b)
				if err != nil {
					_ = web.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
					return
				}
				_ = web.WriteMessage(websocket.BinaryMessage, b[:n])
			}
		}()
		for {
			_, data, err := web.ReadMessage()
			if err != nil {
				return
			}
			_, _ = conn.Write(data)
		}
	}))
	if conf == nil {
		s.Start()
	} else {
		s.TLS = conf
		s.StartTLS()
	}
	t.Cleanup(s.Close)
	return strings.TrimPrefix(strings.TrimPrefix(s.URL, "http://"), "https://")
}

func TestWebSocket(t *testing.T) {
	t.Parallel()
	ca := authority(t)
	server, err := ca.ServerConfig("127.0.0.1")
	require.NoError(t, err)
	client, err := ca.ClientConfig("bridge")
	require.NoError(t, err)
	header := http.Header{"Authorization": {"Bearer x"}}
	for name, conf := range map[string]*tls.Config{"ws": nil, "wss": server} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := peers.Mosquitto(t, peers.MosquittoOptions{})
			at := dial.Server{Address: webSocketProxy(t, m.Addr, conf), TLS: conf != nil, WebSocket: true, Path: "/mqtt?v=1"}
			login := func() (dial.Login, error) { return dial.Login{TLS: client, Header: header}, nil }
			r := &recorder{ack: true}
			s := openAt(t, m.Addr, r, func(o *Options) { o.Servers, o.ClientID, o.Login = []dial.Server{at}, name, login })
			eventually(t, s, subscribed)
			require.Equal(t, name+"://"+at.Address+"/mqtt?v=1", s.Status().Broker)
			publishAll(t, m, 300)
			require.Equal(t, numbers(0, 300), payloads(awaitDeliveries(t, r, 300)))
			s.Close()

			var problem *dial.Problem
			at.Path = "/"
			require.ErrorAs(t, Reach(t.Context(), Options{Servers: []dial.Server{at}, ClientID: "x", Login: login}), &problem)
			require.Equal(t, dial.CauseNotWebSocket, problem.Cause, "%v", problem)
			at.TLS = conf == nil
			require.ErrorAs(t, Reach(t.Context(), Options{Servers: []dial.Server{at}, ClientID: "x", Login: login}), &problem)
			want := dial.CausePlain
			if conf != nil {
				want = dial.CauseNotWebSocket
			}
			require.Equal(t, want, problem.Cause, "%v", problem)
		})
	}
}
