package daemon

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/jetstream"
)

func TestThin(t *testing.T) {
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	conf := t.TempDir() + "/m.conf"
	os.WriteFile(conf, []byte(fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 1000\nmax_queued_messages 0\n", port)), 0o644)
	cmd := exec.Command("/usr/sbin/mosquitto", "-c", conf)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	defer cmd.Process.Kill()
	time.Sleep(300 * time.Millisecond)
	srv, err := jetstream.StartServer(jetstream.ServerOptions{StoreDir: t.TempDir(), Port: -1})
	require.NoError(t, err)
	defer srv.Shutdown()
	c, err := config.Load(config.Sources{Env: []string{
		fmt.Sprintf("MQTT_URL=mqtt://127.0.0.1:%d", port), "NATS_URL=" + srv.URL(), "BRIDGE_IDENTITY_MODE=off",
		"BRIDGE_LIMITS_DEVICE_RATE=0", "BRIDGE_STATE_DIR=" + t.TempDir(),
	}})
	require.NoError(t, err)
	b, err := Start(context.Background(), Options{Config: c, Log: zerolog.New(zerolog.NewTestWriter(t))})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(b.Problems()) == 0 }, 5*time.Second, 10*time.Millisecond, "%v", b.Problems())
	o := paho.NewClientOptions().AddBroker(fmt.Sprintf("tcp://127.0.0.1:%d", port)).SetClientID("pub")
	pub := paho.NewClient(o)
	require.True(t, pub.Connect().WaitTimeout(5*time.Second))
	for i := range 10000 {
		tok := pub.Publish("tenant/acme/device/dev-1/telemetry", 1, false, fmt.Sprintf("msg %d", i))
		if i%100 == 0 {
			tok.WaitTimeout(5 * time.Second)
		}
	}
	require.Eventually(t, func() bool {
		lane, _, _ := b.lanes[0].parts()
		return lane.Counts().Stored == 10000
	}, 10*time.Second, 50*time.Millisecond)
	lane, p, _ := b.lanes[0].parts()
	t.Logf("%+v", lane.Counts())
	t.Logf("%+v", p.Stats())
	require.NoError(t, b.Stop(context.Background()))
}
