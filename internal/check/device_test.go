package check

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/pki"
	"mqtt-nats-bridge/mqtt"
	"mqtt-nats-bridge/mqtt/dial"
)

func probeOf(b *broker.Broker, device *tls.Config) *takeoverProbe {
	const id = "bridge-check-1"
	return &takeoverProbe{
		device: mqtt.Options{
			Servers: []dial.Server{{Address: strings.TrimPrefix(b.TLSURL(), "ssl://"), TLS: true}}, ClientID: id,
			Login: func() (dial.Login, error) { return dial.Login{TLS: device}, nil },
		},
		bridge: mqtt.Options{Servers: []dial.Server{{Address: strings.TrimPrefix(b.URL(), "tcp://")}}, ClientID: id},
		wait:   time.Minute,
	}
}

func TestE2DeviceClientID(t *testing.T) {
	t.Parallel()
	ca, err := pki.New()
	require.NoError(t, err)
	stranger, err := pki.New()
	require.NoError(t, err)
	const closedPort = "127.0.0.1:1"
	for name, tc := range map[string]struct {
		broker broker.Options
		change func(*testing.T, *takeoverProbe)
		fails  int
		want   string
	}{
		"client ids of devices are overridden": {
			change: func(_ *testing.T, p *takeoverProbe) { p.wait = time.Millisecond },
			want:   "ok    device client ids: a device that connects to mqtts://",
		},
		"client ids are global": {
			broker: broker.Options{GlobalClientIDs: true}, fails: 1,
			want: "loses its connection to the bridge as bridge-check-1, so a device could take over the session of a lane: set clientid_override in the zone of that listener",
		},
		"the gate is closed": {
			broker: broker.Options{Gate: true},
			want:   "was not tried; the listener may be closed until the gate opens it",
		},
		"nothing listens": {
			change: func(_ *testing.T, p *takeoverProbe) { p.device.Servers[0].Address = closedPort },
			want:   "note  device client ids: broker at mqtts://127.0.0.1:1 cannot be reached: ",
		},
		"another authority's certificate": {
			change: func(t *testing.T, p *takeoverProbe) {
				foreign, err := stranger.ClientConfig("acme/probe")
				require.NoError(t, err)
				foreign.RootCAs = ca.Pool()
				p.device.Login = func() (dial.Login, error) { return dial.Login{TLS: foreign}, nil }
			},
			want: "was not tried; set a device certificate that the listener trusts",
		},
		"an unknown authority": {
			change: func(t *testing.T, p *takeoverProbe) {
				foreign, err := stranger.ClientConfig("acme/probe")
				require.NoError(t, err)
				p.device.Login = func() (dial.Login, error) { return dial.Login{TLS: foreign}, nil }
			},
			want: "was not tried; set the CA in --device-ca",
		},
		"the bridge cannot connect": {
			change: func(_ *testing.T, p *takeoverProbe) { p.bridge.Servers[0].Address = closedPort },
			want:   "note  device client ids: the bridge cannot connect as client bridge-check-1: broker at mqtt://127.0.0.1:1 cannot be reached: ",
		},
		"the bridge's second listener": {
			broker: broker.Options{GlobalClientIDs: true}, fails: 1,
			change: func(_ *testing.T, p *takeoverProbe) {
				p.bridge.Servers = append([]dial.Server{{Address: closedPort}}, p.bridge.Servers...)
			},
			want: "FAIL  device client ids: ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			serverTLS, err := ca.ServerConfig()
			require.NoError(t, err)
			tc.broker.TLS = serverTLS
			b, err := broker.Open(tc.broker)
			require.NoError(t, err)
			t.Cleanup(func() { _ = b.Close() })
			device, err := ca.ClientConfig("acme/probe")
			require.NoError(t, err)
			p := probeOf(b, device)
			if tc.change != nil {
				tc.change(t, p)
			}
			var out bytes.Buffer
			r := NewReport(&out)
			p.report(t.Context(), r)
			require.Contains(t, out.String(), tc.want)
			require.Equal(t, tc.fails, r.Failed(), out.String())
			require.Equal(t, 1, strings.Count(out.String(), "\n"), out.String())
			require.Eventually(t, func() bool { return len(b.Clients()) == 0 }, time.Minute, time.Millisecond, "no session is left")
		})
	}
}

// TestStaysOpen covers connections that the broker ends late, never ends, or no longer serves.
func TestStaysOpen(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		serve func(net.Conn)
		took  time.Duration
		want  string
	}{
		"closed late": {func(c net.Conn) { time.Sleep(takeoverWait - time.Millisecond) }, takeoverWait - time.Millisecond, io.EOF.Error()},
		"served": {func(c net.Conn) {
			if p, err := packets.ReadPacket(c); err == nil && p.String() != "" {
				_ = packets.NewControlPacket(packets.Pingresp).Write(c)
			}
		}, takeoverWait, ""},
		"silent": {func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, takeoverWait + stepTimeout, "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				here, there := net.Pipe()
				go func() {
					defer there.Close()
					tc.serve(there)
				}()
				start := time.Now()
				err := (&session{conn: here}).staysOpen(takeoverWait)
				require.Equal(t, tc.took, time.Since(start))
				if tc.want == "" {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, tc.want)
				}
				require.NoError(t, here.Close())
			})
		})
	}
}
