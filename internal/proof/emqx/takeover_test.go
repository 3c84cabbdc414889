package emqx

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/peers"
	"mqtt-nats-bridge/internal/proof"
	"mqtt-nats-bridge/jetstream/embedded"
	"mqtt-nats-bridge/mqtt"
)

// slowLink is a proxy between a bridge and the broker. For one client id, it can block a new
// connection before the broker's answer arrives.
type slowLink struct {
	addr     string
	clientID string
	hold     atomic.Int32 // the packet type to block; 0: none
	held     chan struct{}
}

func newSlowLink(t *testing.T, clientID string, target string) *slowLink {
	t.Helper()
	l := &slowLink{clientID: clientID, held: make(chan struct{}, 100)}
	l.addr = peers.Serve(t, func(c net.Conn) { l.relay(c, target) })
	return l
}

// relay copies in both directions and closes both connections when one ends.
func (l *slowLink) relay(client net.Conn, target string) {
	defer client.Close()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	first, err := packets.ReadPacket(client)
	if err != nil {
		return
	}
	hold := int32(0)
	if c, ok := first.(*packets.ConnectPacket); ok && c.ClientIdentifier == l.clientID {
		hold = l.hold.Load()
	}
	if first.Write(server) != nil {
		return
	}
	go func() {
		defer server.Close()
		if hold == packets.Subscribe {
			_, _ = io.Copy(io.Discard, client)
			return
		}
		_, _ = io.Copy(server, client)
	}()
	answer, err := packets.ReadPacket(server)
	if err != nil {
		return
	}
	if hold != packets.Connack && answer.Write(client) != nil {
		return
	}
	if hold != 0 {
		l.held <- struct{}{}
		_, _ = io.Copy(io.Discard, server)
		return
	}
	_, _ = io.Copy(client, server)
}

// Two clients alternately take over one session. A takeover that ends a connection before
// CONNACK or SUBACK arrives must not be reported as a refusal.
func TestE8TakeoverBeforeAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hold     int32
		connects uint64 // per round, as the lane counts them
	}{"CONNACK": {packets.Connack, 1}, "SUBACK": {packets.Subscribe, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := broker.Open(broker.Options{Attest: true, Username: "bridge", Password: proof.BridgePassword})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, b.Close()) })
			const lane = "bridge-p3"
			link := newSlowLink(t, lane, strings.TrimPrefix(b.URL(), "tcp://"))
			bridge := proof.StartInProcess(t, proof.Settings{
				"mqtt.url": "mqtt://" + link.addr, "mqtt.username": "bridge", "mqtt.password": proof.BridgePassword,
				"nats.url": proof.StartJetStream(t, embedded.Options{}).URL(),
			})
			proof.AwaitReady(t, bridge)
			takeOver := func() {
				c := paho.NewClient(paho.NewClientOptions().AddBroker(b.URL()).SetClientID(lane).SetUsername("bridge").
					SetPassword(proof.BridgePassword).SetProtocolVersion(4).SetCleanSession(false).SetAutoReconnect(false))
				proof.AwaitToken(t, c.Connect())
				t.Cleanup(func() { c.Disconnect(0) })
			}
			session := func() mqtt.Status {
				for _, l := range bridge.Status(t.Context()).Lanes {
					if l.ClientID == lane {
						return l.Session
					}
				}
				return mqtt.Status{}
			}
			for !session().Takeover {
				before := session().Connects
				link.hold.Store(c.hold)
				takeOver()
				<-link.held
				link.hold.Store(0)
				takeOver()
				proof.Eventually(t, func() bool {
					st := session()
					require.NotRegexp(t, "refuse|instead of answering", st.Problem)
					return st.Subscribed && st.Connects == before+c.connects
				}, func() any { return session() })
			}
			require.Contains(t, fmt.Sprint(bridge.Warnings()), lane)
		})
	}
}
