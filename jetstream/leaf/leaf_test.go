package leaf_test

import (
	"context"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/internal/testrun"
	"mqtt-nats-bridge/internal/tlsfile"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/embedded"
	"mqtt-nats-bridge/jetstream/leaf"
	"mqtt-nats-bridge/jetstream/publish"
	"mqtt-nats-bridge/jetstream/streams"
)

// startHub starts a hub with a listener for leaf nodes and returns its ports, for a restart.
func startHub(t *testing.T, dir string, ports [2]int, configure func(*natsd.Options)) (*embedded.Server, [2]int) {
	t.Helper()
	if ports == [2]int{} {
		ports = [2]int{testrun.Address(t).Port, testrun.Address(t).Port}
	}
	hub, err := embedded.Open(embedded.Options{StoreDir: dir, Port: ports[0], ServerName: "hub", Configure: func(o *natsd.Options) {
		o.LeafNode.Host, o.LeafNode.Port = "127.0.0.1", ports[1]
		if configure != nil {
			configure(o)
		}
	}})
	require.NoError(t, err)
	t.Cleanup(hub.Close)
	return hub, ports
}

func leafURL(ports [2]int) string { return "nats-leaf://127.0.0.1:" + strconv.Itoa(ports[1]) }

// outStreams are streams of the hub that source from a domain.
func outStreams(domain string) []streams.Spec {
	return []streams.Spec{
		{Name: "TELEMETRY", Subjects: []string{"tenant.*.device.*.*"}, Sources: []streams.SourceSpec{{Stream: "TELEMETRY", Domain: domain}}},
		{Name: "QUARANTINE", Subjects: []string{"quarantine.>"}, Sources: []streams.SourceSpec{{Stream: "QUARANTINE", Domain: domain}}},
	}
}

func leafOptions(t *testing.T, urls, domain string) leaf.Options {
	return leaf.Options{
		URLs: urls, Domain: domain, StoreDir: t.TempDir(), MaxBytes: 1 << 30, MaxPayload: 1 << 20,
		SyncInterval: time.Minute, DuplicateWindow: 2 * time.Minute, Streams: outStreams(domain),
		Log: func(level, line string) {
			if level != "info" {
				t.Log(level, line)
			}
		},
	}
}

func startLeaf(t *testing.T, o leaf.Options) *leaf.Leaf {
	t.Helper()
	l, err := leaf.Open(natstest.Context(t), o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// inProcess returns a client of the leaf node.
func inProcess(t *testing.T, l *leaf.Leaf) natsjs.JetStream {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(l.InProcess()))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	return js
}

func awaitLink(t *testing.T, l *leaf.Leaf) {
	t.Helper()
	require.Eventually(t, func() bool { up, _ := l.Link(); return up }, testrun.Timeout, 5*time.Millisecond)
}

// drainTimeout covers nats-server's retry: a source request that reaches no leaf node is repeated
// after 30 s and a pause.
const drainTimeout = 3 * time.Minute

// awaitDrained waits until the hub has all messages and the leaf node none.
func awaitDrained(t *testing.T, hub natsjs.JetStream, l *leaf.Leaf, streams []streams.Spec) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), drainTimeout)
	defer cancel()
	require.Eventually(t, func() bool {
		at, _, err := leaf.SourcedUpTo(ctx, hub, streams)
		if err != nil {
			return false
		}
		require.NoError(t, l.ConfirmSequences(at))
		require.NoError(t, l.Purge(ctx, at))
		all, err := l.Backlog(ctx, nil)
		require.NoError(t, err)
		for _, b := range all {
			if b.Messages > 0 {
				return false
			}
		}
		return true
	}, drainTimeout, 20*time.Millisecond)
}

func apply(t *testing.T, hub natsjs.JetStream, specs []streams.Spec) *streams.Report {
	t.Helper()
	report, err := streams.Manage(natstest.Context(t), hub, streams.ManageApply, specs, nil)
	require.NoError(t, err)
	return report
}

func newLeafPublisher(t *testing.T, l *leaf.Leaf, settler bridge.Settler) *publish.Publisher {
	t.Helper()
	p, err := publish.Open(publish.Options{
		Connect: func(extra ...nats.Option) (*nats.Conn, error) {
			return conn.Connect(conn.Options{}, extra...)
		},
		InProcess: l.InProcess(), Settler: settler,
	})
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

func requireMessage(t *testing.T, js natsjs.JetStream, stream, subject string) *natsjs.RawStreamMsg {
	t.Helper()
	s, err := js.Stream(natstest.Context(t), stream)
	require.NoError(t, err)
	m, err := s.GetLastMsgForSubject(natstest.Context(t), subject)
	require.NoError(t, err)
	return m
}

func TestLeaf(t *testing.T) {
	t.Parallel()
	t.Run("message reaches hub unchanged", testMessageReachesHubUnchanged)
	t.Run("publish is stored once and acked by its own side", testPublishIsStoredOnceAndAckedByItsOwnSide)
	t.Run("two sites feed one hub stream", testTwoSitesFeedOneHubStream)
	t.Run("hub resumes after restart", testHubResumesAfterRestart)
	t.Run("lost store loses only its messages", testLostStoreLosesOnlyItsMessages)
}

func testMessageReachesHubUnchanged(t *testing.T) {
	t.Parallel()
	hub, ports := startHub(t, t.TempDir(), [2]int{}, nil)
	js := natstest.JetStream(t, hub)
	streams := outStreams("site-a")
	l := startLeaf(t, leafOptions(t, leafURL(ports), "site-a"))
	awaitLink(t, l)
	apply(t, js, streams)
	o := natstest.NewOutcomes(t)
	p := newLeafPublisher(t, l, o)
	for i, subject := range []string{"tenant.acme.device.dev-1.telemetry", "quarantine.cn_mismatch.tenant.acme.device.dev-1.telemetry"} {
		p.Publish(&bridge.Message{Token: uint64(i), Subject: []byte(subject), ID: []byte("id-" + strconv.Itoa(i)), Payload: []byte("\x00payload"),
			Headers: []bridge.Header{{Name: "Bridge-Cn", Value: []byte("acme/dev-1")}, {Name: "Bridge-Time", Value: []byte("2026-01-02T03:04:05.678Z")}}})
	}
	for _, x := range o.Wait(2) {
		require.NoError(t, x.Refused)
	}
	require.EqualValues(t, 1, p.Stats().Connects, "counted, though not dialled")
	awaitDrained(t, js, l, streams)
	m := requireMessage(t, js, "TELEMETRY", "tenant.acme.device.dev-1.telemetry")
	require.Equal(t, "\x00payload", string(m.Data))
	require.Equal(t, "id-0", m.Header.Get("Nats-Msg-Id"))
	require.Equal(t, "acme/dev-1", m.Header.Get("Bridge-Cn"))
	require.Equal(t, "2026-01-02T03:04:05.678Z", m.Header.Get("Bridge-Time"))
	require.NotEmpty(t, m.Header.Get("Nats-Stream-Source"), "the one header that is added")
	m = requireMessage(t, js, "QUARANTINE", "quarantine.cn_mismatch.tenant.acme.device.dev-1.telemetry")
	require.Equal(t, "id-1", m.Header.Get("Nats-Msg-Id"))
}

// Hub and leaf node have streams with the same subjects. A message is stored only on the side that
// received it.
func testPublishIsStoredOnceAndAckedByItsOwnSide(t *testing.T) {
	t.Parallel()
	hub, ports := startHub(t, t.TempDir(), [2]int{}, nil)
	nc, err := nats.Connect(hub.URL())
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	streams := outStreams("site-a")
	l := startLeaf(t, leafOptions(t, leafURL(ports), "site-a"))
	awaitLink(t, l)
	apply(t, js, streams)
	local := inProcess(t, l)
	// Once the hub sources, the link has propagated the subscriptions of both ends.
	_, err = local.Publish(natstest.Context(t), "tenant.acme.device.first.telemetry", nil)
	require.NoError(t, err)
	awaitDrained(t, js, l, streams)

	answers, err := nc.SubscribeSync(nc.NewInbox())
	require.NoError(t, err)
	require.NoError(t, nc.PublishRequest("tenant.acme.device.dev-1.telemetry", answers.Subject, []byte("at the hub")))
	ack, err := answers.NextMsg(testrun.Timeout)
	require.NoError(t, err)
	require.JSONEq(t, `{"stream":"TELEMETRY","seq":2}`, string(ack.Data))
	localAck, err := local.Publish(natstest.Context(t), "tenant.acme.device.dev-2.telemetry", []byte("at the leaf"))
	require.NoError(t, err)
	require.Equal(t, "site-a", localAck.Domain)
	awaitDrained(t, js, l, streams)
	// By now a second answer to the publish at the hub would have arrived.
	pending, _, err := answers.Pending()
	require.NoError(t, err)
	require.Zero(t, pending, "one PubAck, the hub's")

	s, err := js.Stream(natstest.Context(t), "TELEMETRY")
	require.NoError(t, err)
	require.EqualValues(t, 3, s.CachedInfo().State.Msgs, "each once")
	here, err := local.Stream(natstest.Context(t), "TELEMETRY")
	require.NoError(t, err)
	require.Equal(t, localAck.Sequence, here.CachedInfo().State.LastSeq, "nothing of the hub's came between")
}

func testTwoSitesFeedOneHubStream(t *testing.T) {
	t.Parallel()
	hub, ports := startHub(t, t.TempDir(), [2]int{}, nil)
	js := natstest.JetStream(t, hub)
	first, second := outStreams("site-a"), outStreams("site-b")
	a := startLeaf(t, leafOptions(t, leafURL(ports), "site-a"))
	b := startLeaf(t, leafOptions(t, leafURL(ports), "site-b"))
	awaitLink(t, a)
	awaitLink(t, b)
	apply(t, js, first)
	publish := func(l *leaf.Leaf, device string) {
		t.Helper()
		_, err := inProcess(t, l).Publish(natstest.Context(t), "tenant.acme.device."+device+".telemetry", nil, natsjs.WithMsgID(device))
		require.NoError(t, err)
	}
	publish(b, "before") // stored before the hub's last message, and before the hub sources from the site
	publish(a, "dev-a")
	awaitDrained(t, js, a, first)

	d, err := streams.Plan(natstest.Context(t), js, second, nil)
	require.NoError(t, err)
	require.Contains(t, d.String(), "! sources               TELEMETRY of domain site-a -> TELEMETRY of domain site-a, TELEMETRY of domain site-b")
	_, err = streams.Manage(natstest.Context(t), js, streams.ManageCreate, second, nil)
	require.ErrorIs(t, err, streams.ErrContradiction)
	require.ErrorContains(t, advice.Streams(err), "run mqtt-nats-bridge streams apply")
	_, _, err = leaf.SourcedUpTo(natstest.Context(t), js, second)
	require.ErrorContains(t, err, "stream TELEMETRY at the hub does not source TELEMETRY of domain site-b")

	apply(t, js, second)
	for _, specs := range [][]streams.Spec{first, second} {
		d, err = streams.Plan(natstest.Context(t), js, specs, nil)
		require.NoError(t, err)
		require.True(t, d.Empty(), "each site finds itself: %s", d)
	}
	publish(b, "dev-b")
	awaitDrained(t, js, b, second)
	s, err := js.Stream(natstest.Context(t), "TELEMETRY")
	require.NoError(t, err)
	require.EqualValues(t, 3, s.CachedInfo().State.Msgs)
	requireMessage(t, js, "TELEMETRY", "tenant.acme.device.before.telemetry")
}

// pump publishes n numbered messages to the leaf node and waits until they are stored.
func fill(t *testing.T, l *leaf.Leaf, from, n int) {
	t.Helper()
	o := natstest.NewOutcomes(t)
	p := newLeafPublisher(t, l, o)
	defer p.Close()
	for i := from; i < from+n; i++ {
		id := strconv.Itoa(i)
		p.Publish(&bridge.Message{Token: uint64(i - from), Subject: []byte("tenant.acme.device.dev-1.telemetry"), ID: []byte("id-" + id), Payload: []byte(id)})
	}
	for _, x := range o.Wait(n) {
		require.NoError(t, x.Refused)
	}
}

// requireNumbers demands 0 to n-1 in order, each once.
func requireNumbers(t *testing.T, js natsjs.JetStream, n int) {
	t.Helper()
	s, err := js.Stream(natstest.Context(t), "TELEMETRY")
	require.NoError(t, err)
	c, err := s.OrderedConsumer(natstest.Context(t), natsjs.OrderedConsumerConfig{})
	require.NoError(t, err)
	messages, err := c.Messages()
	require.NoError(t, err)
	defer messages.Stop()
	require.EqualValues(t, n, s.CachedInfo().State.Msgs)
	for i := range n {
		m, err := messages.Next(natsjs.NextMaxWait(testrun.Timeout))
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(i), string(m.Data()))
	}
}

func testHubResumesAfterRestart(t *testing.T) {
	t.Parallel()
	testrun.SkipQuick(t, "the hub takes half a minute to source again")
	dir := t.TempDir()
	hub, ports := startHub(t, dir, [2]int{}, nil)
	streams := outStreams("site-a")
	l := startLeaf(t, leafOptions(t, leafURL(ports), "site-a"))
	awaitLink(t, l)
	apply(t, natstest.JetStream(t, hub), streams)
	fill(t, l, 0, 2000)
	awaitDrained(t, natstest.JetStream(t, hub), l, streams)
	fill(t, l, 2000, 2000)
	hub.Close()
	fill(t, l, 4000, 2000)
	hub, _ = startHub(t, dir, ports, nil)
	js := natstest.JetStream(t, hub)
	awaitDrained(t, js, l, streams)
	requireNumbers(t, js, 6000)
}

// newSite starts a hub and returns the options of a leaf node of site-a.
func newSite(t *testing.T) (hub natsjs.JetStream, streams []streams.Spec, o leaf.Options) {
	t.Helper()
	server, ports := startHub(t, t.TempDir(), [2]int{}, nil)
	return natstest.JetStream(t, server), outStreams("site-a"), leafOptions(t, leafURL(ports), "site-a")
}

// nextNumbers waits until an empty stream would begin at another number, which comes from a clock
// of whole seconds.
func nextNumbers() {
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
}

// A lost local store loses its messages and its sequence. The hub must neither skip later messages
// nor store any message twice.
func testLostStoreLosesOnlyItsMessages(t *testing.T) {
	t.Parallel()
	testrun.SkipQuick(t, "the hub takes half a minute to source again")
	js, streams, o := newSite(t)
	l := startLeaf(t, o)
	awaitLink(t, l)
	apply(t, js, streams)
	fill(t, l, 0, 500)
	awaitDrained(t, js, l, streams)
	require.NoError(t, l.Close())

	o.StoreDir = t.TempDir()
	nextNumbers()
	l = startLeaf(t, o)
	fill(t, l, 500, 3)
	awaitDrained(t, js, l, streams)
	requireNumbers(t, js, 503)
}

func TestLeafCredentials(t *testing.T) {
	t.Parallel()
	pair, seed := natstest.NewUser(t)
	public, err := pair.PublicKey()
	require.NoError(t, err)
	seedFile := natstest.WriteFile(t, filepath.Join(t.TempDir(), "user.nk"), seed)
	operated, creds := natstest.OperatorMode(t)
	ca := natstest.NewCA(t, "ca")
	cert, key := ca.Issue(t, "bridge.test")
	password := func(o *natsd.Options) { o.LeafNode.Username, o.LeafNode.Password = "bridge", "s3cret" }
	for name, c := range map[string]struct {
		server func(*natsd.Options)
		client conn.Options
	}{
		"user and password": {password, conn.Options{User: "bridge", Password: "s3cret"}},
		"in the url":        {password, conn.Options{URL: "nats://bridge:s3cret@127.0.0.1:1"}},
		"token":             {func(o *natsd.Options) { o.Authorization = "t0ken" }, conn.Options{Token: "t0ken"}},
		"nkey":              {func(o *natsd.Options) { o.LeafNode.Nkey = public }, conn.Options{NKeySeedFile: seedFile}},
		"creds":             {operated, conn.Options{Creds: creds}},
		"certificate": {func(o *natsd.Options) {
			ca.ServerTLS(t, true)(o)
			o.LeafNode.TLSConfig, o.LeafNode.TLSTimeout = o.TLSConfig, 5
			o.TLS, o.TLSVerify, o.TLSConfig = false, false, nil
		}, conn.Options{TLSFiles: conn.TLSFiles{Files: tlsfile.Files{CA: ca.File, Cert: cert, Key: key}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, ports := startHub(t, t.TempDir(), [2]int{}, c.server)
			o := leafOptions(t, leafURL(ports), "site-a")
			o.Hub = c.client
			l := startLeaf(t, o)
			require.Eventually(t, func() bool { up, _ := l.Link(); return up }, testrun.Timeout, 5*time.Millisecond)

			o = leafOptions(t, leafURL(ports), "site-b")
			o.Hub = conn.Options{User: "bridge", Password: "wrong"}
			l = startLeaf(t, o)
			require.Eventually(t, func() bool {
				up, problem := l.Link()
				return !up && problem != ""
			}, testrun.Timeout, 5*time.Millisecond)
		})
	}
	o := leafOptions(t, "nats-leaf://127.0.0.1:1", "site-a")
	o.Hub = conn.Options{User: "bridge", Password: "s3cret", Token: "t0ken"}
	_, err = leaf.Open(natstest.Context(t), o)
	require.ErrorContains(t, err, "user and password, token are all set")
}
