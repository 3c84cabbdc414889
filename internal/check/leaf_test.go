package check

import (
	"bytes"
	"testing"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/testrun"
)

func TestLeafCheck(t *testing.T) {
	t.Parallel()
	t.Run("leaf link is tried", testLeafLinkIsTried)
	t.Run("stream without source of this site fails", testStreamWithoutSourceOfThisSiteFails)
	t.Run("leaf store is shown", testLeafStoreIsShown)
}

func testLeafLinkIsTried(t *testing.T) {
	t.Parallel()
	leaf := testrun.Address(t)
	hub := startNATS(t, func(o *natsd.Options) {
		o.LeafNode.Host, o.LeafNode.Port = "127.0.0.1", leaf.Port
		o.LeafNode.Username, o.LeafNode.Password = "bridge", "bridge"
		o.Username, o.Password = "bridge", "bridge"
	})
	settings := []string{
		"NATS_URL=" + hub.URL(), "BRIDGE_NATS_USER=bridge", "BRIDGE_NATS_PASSWORD=bridge",
		"BRIDGE_NATS_MODE=leaf", "BRIDGE_NATS_LEAF_DOMAIN=site-a", "BRIDGE_NATS_LEAF_STORE_DIR=" + t.TempDir(),
	}
	url := "nats-leaf://" + leaf.String()
	out, r := checkNATS(t, append(settings, "BRIDGE_NATS_LEAF_URL="+url)...)
	require.Zero(t, r.Failed(), out)
	require.Contains(t, out, "reports its sourcing progress")
	require.Contains(t, out, "ok    leaf link: the hub accepts a leaf node at "+url)
	require.Contains(t, out, "note  stream TELEMETRY: does not exist yet, the bridge creates it at start")
	require.NotContains(t, out, "nats publish", "messages are published within the bridge")

	nobody := "nats-leaf://" + testrun.Address(t).String()
	out, r = checkNATS(t, append(settings, "BRIDGE_NATS_LEAF_URL="+nobody, "BRIDGE_NATS_LEAF_MAX_PAYLOAD=2MiB")...)
	require.Equal(t, 2, r.Failed(), out)
	require.Regexp(t, `FAIL  leaf link: .* does not accept a leaf node: .*connection refused.*: make sure that the hub has a leafnodes block`, out)
	require.Contains(t, out, "FAIL  hub max_payload: the hub accepts 1MiB, but nats.leaf.max_payload is 2MiB")
}

func testStreamWithoutSourceOfThisSiteFails(t *testing.T) {
	t.Parallel()
	leaf := testrun.Address(t)
	hub := startNATS(t, func(o *natsd.Options) { o.LeafNode.Host, o.LeafNode.Port = "127.0.0.1", leaf.Port })
	apply(t, openJetStream(t, hub.URL()))
	out, r := checkNATS(t, "NATS_URL="+hub.URL(), "BRIDGE_NATS_MODE=leaf", "BRIDGE_NATS_LEAF_DOMAIN=site-a",
		"BRIDGE_NATS_LEAF_STORE_DIR="+t.TempDir(), "BRIDGE_NATS_LEAF_URL=nats-leaf://"+leaf.String())
	require.Equal(t, 4, r.Failed(), out)
	require.Contains(t, out, "FAIL  streams: stream TELEMETRY: sources is none, must be TELEMETRY of domain site-a: run mqtt-nats-bridge streams apply")
}

func testLeafStoreIsShown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, plan := load(t, "BRIDGE_NATS_MODE=leaf", "BRIDGE_NATS_LEAF_URL=nats-leaf://hub", "BRIDGE_NATS_LEAF_DOMAIN=site-a", "BRIDGE_NATS_LEAF_STORE_DIR="+dir)
	var out bytes.Buffer
	Local(c, plan, NewReport(&out))
	require.Contains(t, out.String(), "ok    leaf: domain site-a, stores up to 10GiB for the hub at nats-leaf://hub:7422")
	require.Contains(t, out.String(), "ok    nats.leaf.store_dir: "+dir+" is writable")
}
