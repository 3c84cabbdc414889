package deploytest

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/broker"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/daemon"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/internal/testrun"
)

// block returns the code below a marker in docs/leaf.md.
func block(t *testing.T, mark string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "leaf.md"))
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(page), "<!-- "+mark+": loaded by a test -->\n```")
	require.True(t, ok, mark)
	_, rest, _ = strings.Cut(rest, "\n")
	text, _, ok := strings.Cut(rest, "```\n")
	require.True(t, ok, mark)
	return text
}

// The hub and the bridge of docs/leaf.md work together with only the documented permissions.
func TestLeafPage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	conf := filepath.Join(dir, "hub.conf")
	require.NoError(t, os.WriteFile(conf, []byte(block(t, "hub.conf")), 0o600))
	opts, err := server.ProcessConfigFile(conf)
	require.NoError(t, err)
	require.Equal(t, 7422, opts.LeafNode.Port)
	opts.Host, opts.Port, opts.StoreDir = "127.0.0.1", -1, t.TempDir()
	opts.LeafNode.Host, opts.LeafNode.Port = "127.0.0.1", -1
	opts.NoLog, opts.NoSigs = true, true
	hub, err := server.NewServer(opts)
	require.NoError(t, err)
	hub.Start()
	t.Cleanup(func() { hub.Shutdown(); hub.WaitForShutdown() })
	require.True(t, hub.ReadyForConnections(testrun.Timeout))

	password := filepath.Join(dir, "nats")
	require.NoError(t, os.WriteFile(password, []byte(natsPasswords["bridge"]), 0o600))
	devices, err := broker.Open(broker.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, devices.Close()) })
	here := strings.NewReplacer(
		"/run/secrets/nats", password, "/var/lib/mqtt-nats-bridge/leaf", filepath.Join(dir, "leaf"),
		"nats://hub:4222", hub.ClientURL(), "nats-leaf://hub:7422", "nats-leaf://"+net.JoinHostPort("127.0.0.1", strconv.Itoa(opts.LeafNode.Port)))
	file := filepath.Join(dir, "bridge.yaml")
	require.NoError(t, os.WriteFile(file, []byte(here.Replace(block(t, "bridge.yaml"))), 0o600))
	c, err := config.Load(config.Sources{File: file, Flags: []config.Flag{
		{Path: "mqtt.url", Value: "mqtt://" + strings.TrimPrefix(devices.URL(), "tcp://")},
		{Path: "identity.mode", Value: "off"}, {Path: "admin.listen", Value: ""},
	}}, plan.Validate)
	require.NoError(t, err)
	nc, err := nats.Connect(hub.ClientURL(), nats.UserInfo("operator", natsPasswords["operator"]))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	limit := func(key string) {
		t.Helper()
		kv, err := js.CreateOrUpdateKeyValue(t.Context(), natsjs.KeyValueConfig{Bucket: "BRIDGE_LIMITS"})
		require.NoError(t, err)
		_, err = kv.PutString(t.Context(), key, `{"rate":50}`)
		require.NoError(t, err)
	}
	limit("tenant.acme")
	b, err := daemon.Open(t.Context(), daemon.Options{Config: c, Log: zerolog.Nop()})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testrun.Timeout)
		defer cancel()
		require.NoError(t, b.Close(ctx))
	})
	require.Eventually(t, func() bool {
		_, err := js.Stream(t.Context(), "QUARANTINE")
		return err == nil && b.Status(t.Context()).Lanes[0].Session.Subscribed
	}, testrun.Timeout, 10*time.Millisecond, "the streams are made with what the page grants")

	device := paho.NewClient(paho.NewClientOptions().AddBroker(devices.URL()).SetClientID("dev-1"))
	for _, do := range []func() paho.Token{device.Connect, func() paho.Token {
		return device.Publish("tenant/acme/device/dev-1/telemetry", 1, false, "x")
	}} {
		token := do()
		require.True(t, token.WaitTimeout(testrun.Timeout))
		require.NoError(t, token.Error())
	}
	t.Cleanup(func() { device.Disconnect(0) })
	require.Eventually(t, func() bool {
		s, err := js.Stream(t.Context(), "TELEMETRY")
		return err == nil && s.CachedInfo().State.Msgs == 1 && b.Status(t.Context()).Leaf.Messages == 0
	}, 90*time.Second, 20*time.Millisecond)
	ready, problems := b.Ready()
	require.True(t, ready, problems)

	// A bucket that is created again is followed again: the old consumer ends and a new one is
	// created.
	require.NoError(t, js.DeleteKeyValue(t.Context(), "BRIDGE_LIMITS"))
	limit("tenant.acme")
	limit("tenant.other")
	require.Eventually(t, func() bool {
		s := b.Status(t.Context()).Limits.Overrides
		return s.Live && s.Overrides == 2
	}, testrun.Timeout, 10*time.Millisecond, "%+v", b.Status(t.Context()).Limits.Overrides)
}
