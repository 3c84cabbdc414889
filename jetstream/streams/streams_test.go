package streams_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/natstest"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/jetstream/embedded"
	"mqtt-nats-bridge/jetstream/streams"
)

func TestValidateSpecs(t *testing.T) {
	t.Parallel()
	err := streams.ValidateSpecs(
		[]streams.Spec{
			{Name: "A", Subjects: []string{"a.>", "a.b", "bad..subject"}},
			{Name: "A", Subjects: []string{"x"}, MaxAge: time.Second, DuplicateWindow: time.Minute},
			{Name: "B", Subjects: []string{"*.b"}, Replicas: 7},
			{Name: "C"},
			{Name: "no good", Subjects: []string{"n"}},
		},
		[]streams.ConsumerSpec{
			{Stream: "A", Name: "w"}, {Stream: "A", Name: "w", FilterSubjects: []string{"a.>", "a.*"}},
			{Stream: "Z", Name: "w"}, {Stream: "A", Name: "w.x"},
		})
	for _, says := range []string{
		"stream A: subjects a.> and a.b overlap",
		`stream A: subject "bad..subject" is not valid`,
		"stream A: named twice",
		"stream A: duplicate_window 1m is longer than max_age 1s",
		"stream B: subject *.b overlaps with a.> of stream A",
		"stream B: replicas 7: must be 1 to 5",
		"stream C: no subjects",
		`stream name "no good"`,
		"consumer A/w: named twice",
		"consumer A/w: filter subjects a.> and a.* overlap",
		`consumer w: no stream "Z" is declared`,
		`consumer name "w.x"`,
	} {
		require.ErrorContains(t, err, says)
	}
}

// world is a server whose streams differ from the declared ones: one stream is right, one is
// missing, one has other limits, one cannot be changed, and one has lost its subject to another
// stream.
func world(t *testing.T) (natsjs.JetStream, []streams.Spec, []streams.ConsumerSpec) {
	t.Helper()
	js := natstest.JetStream(t, natstest.StartServer(t, nil))
	ctx := natstest.Context(t)
	specs := append(fleetStreams(),
		streams.Spec{Name: "EVENTS", Subjects: []string{"events.>"}, MaxMsgs: 500, Discard: natsjs.DiscardNew})
	consumers := append(fleetConsumers(),
		streams.ConsumerSpec{Stream: "SHADOW", Name: "audit", FilterSubjects: []string{"tenant.acme.>"}, MaxDeliver: 5},
		streams.ConsumerSpec{Stream: "SHADOW", Name: "pushed"})

	mustCreate(t, js, natsjs.StreamConfig{
		Name: "SHADOW", Subjects: []string{"tenant.*.device.*.shadow.reported"},
		MaxAge: 12 * time.Hour, MaxBytes: 100 << 20, Duplicates: time.Minute, Discard: natsjs.DiscardNew,
	})
	mustCreate(t, js, natsjs.StreamConfig{
		Name: "COMMANDS", Subjects: []string{"tenant.*.device.*.commands.ack"}, MaxAge: 24 * time.Hour, MaxBytes: 1 << 30,
		Storage: natsjs.MemoryStorage, Retention: natsjs.WorkQueuePolicy,
	})
	mustCreate(t, js, natsjs.StreamConfig{
		Name: "QUARANTINE", Subjects: []string{"quarantine.>"}, MaxAge: 7 * 24 * time.Hour, MaxBytes: 1 << 30, MaxMsgsPerSubject: 1000,
	})
	mustCreate(t, js, natsjs.StreamConfig{Name: "STRANGER", Subjects: []string{"events.important", "other"}})
	_, err := js.CreateConsumer(ctx, "SHADOW", natsjs.ConsumerConfig{Durable: "ingest-shadow", AckPolicy: natsjs.AckExplicitPolicy, AckWait: time.Minute, MaxAckPending: 10_000})
	require.NoError(t, err)
	_, err = js.CreatePushConsumer(ctx, "SHADOW", natsjs.ConsumerConfig{Durable: "pushed", AckPolicy: natsjs.AckNonePolicy, DeliverSubject: "push.here"})
	require.NoError(t, err)
	return js, specs, consumers
}

func mustCreate(t *testing.T, js natsjs.JetStream, cfg natsjs.StreamConfig) {
	t.Helper()
	_, err := js.CreateStream(natstest.Context(t), cfg)
	require.NoError(t, err)
}

// golden compares with testdata; UPDATE_GOLDEN=1 writes the file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		natstest.WriteFile(t, path, []byte(got))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func TestPlan(t *testing.T) {
	t.Parallel()

	t.Run("nothing there", func(t *testing.T) {
		t.Parallel()
		d, err := streams.Plan(natstest.Context(t), natstest.JetStream(t, natstest.StartServer(t, nil)), fleetStreams(), fleetConsumers())
		require.NoError(t, err)
		require.False(t, d.Empty())
		golden(t, "plan.nothing-there.txt", d.String())
	})
	t.Run("all differs", func(t *testing.T) {
		t.Parallel()
		js, specs, consumers := world(t)
		d, err := streams.Plan(natstest.Context(t), js, specs, consumers)
		require.NoError(t, err)
		require.False(t, d.Empty())
		golden(t, "plan.all-differs.txt", d.String())
	})
	t.Run("all as declared", func(t *testing.T) {
		t.Parallel()
		js := natstest.JetStream(t, natstest.StartServer(t, nil))
		_, err := streams.Manage(natstest.Context(t), js, streams.ManageCreate, fleetStreams(), fleetConsumers())
		require.NoError(t, err)
		d, err := streams.Plan(natstest.Context(t), js, fleetStreams(), fleetConsumers())
		require.NoError(t, err)
		require.True(t, d.Empty())
		golden(t, "plan.all-as-declared.txt", d.String())
	})
}

func TestManageConflicts(t *testing.T) {
	t.Parallel()
	for _, mode := range []streams.ManageMode{streams.ManageCreate, streams.ManageVerify, streams.ManageApply} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			js, specs, consumers := world(t)
			before, err := streams.Plan(natstest.Context(t), js, specs, consumers)
			require.NoError(t, err)
			report, err := streams.Manage(natstest.Context(t), js, mode, specs, consumers)
			require.ErrorIs(t, err, streams.ErrContradiction)
			golden(t, "contradictions."+string(mode)+".txt", advice.Streams(err).Error()+"\n")
			require.Empty(t, report.Created)
			require.Empty(t, report.Updated)
			after, err := streams.Plan(natstest.Context(t), js, specs, consumers)
			require.NoError(t, err)
			require.Equal(t, before.String(), after.String())
		})
	}
}

func TestManage(t *testing.T) {
	t.Parallel()
	t.Run("create never changes existing streams", testCreateNeverChangesExistingStreams)
	t.Run("wider subject is not a conflict", testWiderSubjectIsNotAConflict)
	t.Run("verify reports missing streams and creates none", testVerifyReportsMissingStreamsAndCreatesNone)
	t.Run("off only reads existing streams", testOffOnlyReadsExistingStreams)
	t.Run("apply updates consumers", testApplyUpdatesConsumers)
	t.Run("concurrent starts all succeed", testConcurrentStartsAllSucceed)
	t.Run("documented permissions suffice", testDocumentedPermissionsSuffice)
	t.Run("consumer start by time is a note", testConsumerStartByTimeIsANote)
}

func testCreateNeverChangesExistingStreams(t *testing.T) {
	t.Parallel()
	js := natstest.JetStream(t, natstest.StartServer(t, nil))
	// The stream has other limits, a wider subject and a setting that specs do not cover.
	mustCreate(t, js, natsjs.StreamConfig{
		Name: "TELEMETRY", Subjects: []string{"tenant.*.device.*.*", "legacy.>"}, MaxAge: time.Hour, Compression: natsjs.S2Compression,
	})
	report, err := streams.Manage(natstest.Context(t), js, streams.ManageCreate, fleetStreams(), fleetConsumers())
	require.NoError(t, err)
	require.Equal(t, []string{
		"stream SHADOW", "stream COMMANDS", "stream QUARANTINE",
		"consumer TELEMETRY/ingest-workers", "consumer SHADOW/ingest-shadow", "consumer COMMANDS/ingest-commands",
	}, report.Created)
	require.Equal(t, []string{
		"stream TELEMETRY: subjects is tenant.*.device.*.*, legacy.>, configured is tenant.*.device.*.*; not changed",
		"stream TELEMETRY: max_age is 1h, configured is 24h; not changed",
		"stream TELEMETRY: max_bytes is no limit, configured is 10 GiB; not changed",
	}, report.Notes)
	s, err := js.Stream(natstest.Context(t), "TELEMETRY")
	require.NoError(t, err)
	require.Equal(t, time.Hour, s.CachedInfo().Config.MaxAge)

	report, err = streams.Manage(natstest.Context(t), js, streams.ManageApply, fleetStreams(), fleetConsumers())
	require.NoError(t, err)
	require.Equal(t, []string{"stream TELEMETRY"}, report.Updated)
	require.Empty(t, report.Created)
	s, err = js.Stream(natstest.Context(t), "TELEMETRY")
	require.NoError(t, err)
	require.Equal(t, []string{"tenant.*.device.*.*"}, s.CachedInfo().Config.Subjects)
	require.Equal(t, natsjs.S2Compression, s.CachedInfo().Config.Compression, "what a spec does not cover stays")
	d, err := streams.Plan(natstest.Context(t), js, fleetStreams(), fleetConsumers())
	require.NoError(t, err)
	require.True(t, d.Empty(), d)
}

// Each difference alone: its report, and its handling by apply.
func TestManageEachConflict(t *testing.T) {
	t.Parallel()
	spec := streams.Spec{Name: "T", Subjects: []string{"t.*", "u"}}
	sound := natsjs.StreamConfig{Name: "T", Subjects: []string{"t.*", "u"}}
	for name, c := range map[string]struct {
		change func(*natsjs.StreamConfig)
		says   string
		mends  bool // apply changes it
	}{
		"a subject missing":   {func(c *natsjs.StreamConfig) { c.Subjects = []string{"t.*"} }, "subjects is t.*, must be t.*, u: run mqtt-nats-bridge streams apply", true},
		"a subject narrower":  {func(c *natsjs.StreamConfig) { c.Subjects = []string{"t.a", "u"} }, "subjects is t.a, u, must be t.*, u", true},
		"interest retention":  {func(c *natsjs.StreamConfig) { c.Retention = natsjs.InterestPolicy }, "retention is interest, must be limits: run", true},
		"work-queue":          {func(c *natsjs.StreamConfig) { c.Retention = natsjs.WorkQueuePolicy }, "retention is workqueue, must be limits, and cannot be changed", false},
		"memory":              {func(c *natsjs.StreamConfig) { c.Storage = natsjs.MemoryStorage }, "storage is memory, must be file, and cannot be changed", false},
		"sealed":              {func(c *natsjs.StreamConfig) { c.Sealed = true }, "sealed is true, must be false, and cannot be changed on a stream that exists: delete", false},
		"a mirror":            {func(c *natsjs.StreamConfig) { c.Subjects, c.Mirror = nil, &natsjs.StreamSource{Name: "ORIGIN"} }, "mirror is ORIGIN, must be none, and cannot be changed", false},
		"no acknowledgements": {func(c *natsjs.StreamConfig) { c.NoAck = true }, "no_ack is true, must be false", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := natstest.JetStream(t, natstest.StartServer(t, nil))
			cfg := sound
			c.change(&cfg)
			sealed := cfg.Sealed
			cfg.Sealed = false // only an update can seal
			mustCreate(t, js, cfg)
			if sealed {
				cfg.Sealed = true
				_, err := js.UpdateStream(natstest.Context(t), cfg)
				require.NoError(t, err)
			}
			specs := []streams.Spec{spec}
			for _, mode := range []streams.ManageMode{streams.ManageCreate, streams.ManageVerify} {
				_, err := streams.Manage(natstest.Context(t), js, mode, specs, nil)
				require.ErrorIs(t, err, streams.ErrContradiction)
				require.ErrorContains(t, advice.Streams(err), "stream T: "+c.says)
				require.ErrorContains(t, err, "streams.manage: off")
			}
			_, err := streams.Manage(natstest.Context(t), js, streams.ManageApply, specs, nil)
			if !c.mends {
				require.ErrorIs(t, err, streams.ErrContradiction)
				return
			}
			require.NoError(t, err)
			_, err = streams.Manage(natstest.Context(t), js, streams.ManageVerify, specs, nil)
			require.NoError(t, err)
		})
	}
}

func testWiderSubjectIsNotAConflict(t *testing.T) {
	t.Parallel()
	js := natstest.JetStream(t, natstest.StartServer(t, nil))
	mustCreate(t, js, natsjs.StreamConfig{Name: "T", Subjects: []string{"t.>"}})
	report, err := streams.Manage(natstest.Context(t), js, streams.ManageVerify, []streams.Spec{{Name: "T", Subjects: []string{"t.*"}}}, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"stream T: subjects is t.>, configured is t.*; not changed"}, report.Notes)
}

func testVerifyReportsMissingStreamsAndCreatesNone(t *testing.T) {
	t.Parallel()
	js := natstest.JetStream(t, natstest.StartServer(t, nil))
	specs, consumers := fleetStreams(), fleetConsumers()
	_, err := streams.Manage(natstest.Context(t), js, streams.ManageVerify, specs, consumers)
	require.ErrorIs(t, err, streams.ErrContradiction)
	for _, s := range specs {
		require.ErrorContains(t, advice.Streams(err), "stream "+s.Name+": does not exist: run mqtt-nats-bridge streams apply")
		_, err := js.Stream(natstest.Context(t), s.Name)
		require.ErrorIs(t, err, natsjs.ErrStreamNotFound)
	}
	_, err = streams.Manage(natstest.Context(t), js, streams.ManageCreate, specs, nil)
	require.NoError(t, err)
	report, err := streams.Manage(natstest.Context(t), js, streams.ManageVerify, specs, consumers)
	require.NoError(t, err, "the bridge stores without consumers")
	require.Equal(t, "consumer TELEMETRY/ingest-workers: does not exist", report.Notes[0])
}

func testOffOnlyReadsExistingStreams(t *testing.T) {
	t.Parallel()
	js := natstest.JetStream(t, natstest.StartServer(t, nil))
	report, err := streams.Manage(natstest.Context(t), js, streams.ManageOff, fleetStreams(), fleetConsumers())
	require.NoError(t, err, "nothing needs to exist")
	require.Empty(t, report.Notes)
	_, err = js.CreateStream(natstest.Context(t), natsjs.StreamConfig{Name: "TELEMETRY", Subjects: []string{"x"}, Retention: natsjs.InterestPolicy})
	require.NoError(t, err)
	report, err = streams.Manage(natstest.Context(t), js, streams.ManageOff, fleetStreams(), fleetConsumers())
	require.ErrorIs(t, err, streams.ErrContradiction)
	require.ErrorContains(t, err, "stream TELEMETRY: retention is interest, must be limits, or messages can be lost")
	require.NotContains(t, err.Error(), "subjects")
	require.Contains(t, report.Notes, "stream TELEMETRY: subjects is x, configured is tenant.*.device.*.*; not changed")
	require.Empty(t, report.Created)
}

func testApplyUpdatesConsumers(t *testing.T) {
	t.Parallel()
	js := natstest.JetStream(t, natstest.StartServer(t, nil))
	declared := []streams.Spec{{Name: "T", Subjects: []string{"t.>"}}}
	consumers := []streams.ConsumerSpec{{Stream: "T", Name: "w"}}
	_, err := streams.Manage(natstest.Context(t), js, streams.ManageCreate, declared, consumers)
	require.NoError(t, err)
	for _, changed := range []streams.ConsumerSpec{
		{Stream: "T", Name: "w", AckWait: time.Minute, MaxAckPending: 7, MaxDeliver: 3},
		{Stream: "T", Name: "w", FilterSubjects: []string{"t.a"}},
		{Stream: "T", Name: "w", FilterSubjects: []string{"t.a", "t.b"}},
		{Stream: "T", Name: "w"},
	} {
		specs := []streams.ConsumerSpec{changed}
		before, err := streams.Plan(natstest.Context(t), js, declared, specs)
		require.NoError(t, err)
		require.False(t, before.Empty())
		report, err := streams.Manage(natstest.Context(t), js, streams.ManageCreate, declared, specs)
		require.Empty(t, report.Updated, "create leaves it")
		if err != nil {
			require.ErrorIs(t, err, streams.ErrContradiction)
			require.ErrorContains(t, err, "filter_subjects")
		}
		report, err = streams.Manage(natstest.Context(t), js, streams.ManageApply, declared, specs)
		require.NoError(t, err)
		require.Equal(t, []string{"consumer T/w"}, report.Updated)
		d, err := streams.Plan(natstest.Context(t), js, declared, specs)
		require.NoError(t, err)
		require.True(t, d.Empty(), d)
	}
}

func TestManageLossyConsumers(t *testing.T) {
	t.Parallel()
	s := natstest.StartServer(t, nil)
	js := natstest.JetStream(t, s)
	declared := []streams.Spec{{Name: "T", Subjects: []string{"t.>"}}}
	_, err := streams.Manage(natstest.Context(t), js, streams.ManageCreate, declared, nil)
	require.NoError(t, err)
	for field, tc := range map[string]struct {
		cfg   natsjs.ConsumerConfig
		fixed bool // apply cannot change it
	}{
		"ack_policy":         {natsjs.ConsumerConfig{AckPolicy: natsjs.AckNonePolicy}, true},
		"ack_policy_all":     {natsjs.ConsumerConfig{AckPolicy: natsjs.AckAllPolicy}, true},
		"deliver_policy":     {natsjs.ConsumerConfig{AckPolicy: natsjs.AckExplicitPolicy, DeliverPolicy: natsjs.DeliverNewPolicy}, true},
		"deliver_policy_by":  {natsjs.ConsumerConfig{AckPolicy: natsjs.AckExplicitPolicy, DeliverPolicy: natsjs.DeliverLastPolicy}, true},
		"mem_storage":        {natsjs.ConsumerConfig{AckPolicy: natsjs.AckExplicitPolicy, MemoryStorage: true}, true},
		"headers_only":       {natsjs.ConsumerConfig{AckPolicy: natsjs.AckExplicitPolicy, HeadersOnly: true}, false},
		"inactive_threshold": {natsjs.ConsumerConfig{AckPolicy: natsjs.AckExplicitPolicy, InactiveThreshold: time.Hour}, false},
		"filter_subjects":    {natsjs.ConsumerConfig{AckPolicy: natsjs.AckExplicitPolicy, FilterSubject: "t.a"}, false},
	} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			tc.cfg.Durable = field
			_, err := js.CreateConsumer(natstest.Context(t), "T", tc.cfg)
			require.NoError(t, err)
			specs := []streams.ConsumerSpec{{Stream: "T", Name: field}}
			for _, mode := range []streams.ManageMode{streams.ManageCreate, streams.ManageVerify} {
				_, err = streams.Manage(natstest.Context(t), js, mode, declared, specs)
				require.ErrorIs(t, err, streams.ErrContradiction)
				name := strings.TrimSuffix(strings.TrimSuffix(field, "_all"), "_by")
				require.ErrorContains(t, err, "consumer T/"+field+": "+name+" is ")
			}
			_, err = streams.Manage(natstest.Context(t), js, streams.ManageApply, declared, specs)
			if tc.fixed {
				require.ErrorIs(t, err, streams.ErrContradiction)
				return
			}
			require.NoError(t, err)
			d, err := streams.Plan(natstest.Context(t), js, declared, specs)
			require.NoError(t, err)
			require.Empty(t, d.Consumers[0].Fields, "apply has changed it")
		})
	}
}

func testConcurrentStartsAllSucceed(t *testing.T) {
	t.Parallel()
	s := natstest.StartServer(t, nil)
	const bridges = 8
	apis := make([]natsjs.JetStream, bridges)
	for i := range apis {
		apis[i] = natstest.JetStream(t, s)
	}
	ctx := natstest.Context(t)
	errs := make(chan error, bridges)
	var start sync.WaitGroup
	start.Add(1)
	for i, js := range apis {
		// The declarations differ: later ones find a stream with other limits.
		specs := fleetStreams()
		specs[0].MaxBytes -= int64(i)
		consumers := fleetConsumers()
		consumers[0].MaxAckPending = streams.DefaultMaxAckPending - i
		go func() {
			start.Wait()
			_, err := streams.Manage(ctx, js, streams.ManageCreate, specs, consumers)
			errs <- err
		}()
	}
	start.Done()
	for range bridges {
		require.NoError(t, natstest.Receive(t, "a bridge", errs))
	}
}

func TestManageErrors(t *testing.T) {
	t.Parallel()
	spec := []streams.Spec{{Name: "T", Subjects: []string{"t"}, MaxBytes: 1 << 30}}

	t.Run("too little storage", func(t *testing.T) {
		t.Parallel()
		s, err := embedded.Open(embedded.Options{StoreDir: t.TempDir(), MaxStore: 1 << 20})
		require.NoError(t, err)
		t.Cleanup(s.Close)
		_, err = streams.Manage(natstest.Context(t), natstest.JetStream(t, s), streams.ManageCreate, spec, nil)
		require.ErrorContains(t, err, "create stream T")
		require.NotContains(t, err.Error(), "max_")
		require.Contains(t, advice.For(err), "lower max_bytes")
		require.NotErrorIs(t, err, streams.ErrContradiction)
	})
	t.Run("replicas without a cluster", func(t *testing.T) {
		t.Parallel()
		_, err := streams.Manage(natstest.Context(t), natstest.JetStream(t, natstest.StartServer(t, nil)), streams.ManageCreate,
			[]streams.Spec{{Name: "T", Subjects: []string{"t"}, Replicas: 3}}, nil)
		require.ErrorContains(t, err, "replicas")
	})
	t.Run("no JetStream", func(t *testing.T) {
		t.Parallel()
		s := natstest.StartServer(t, func(o *natsd.Options) { o.JetStream = false })
		_, err := streams.Plan(natstest.Context(t), natstest.JetStream(t, s), spec, nil)
		require.ErrorContains(t, err, "JetStream is not enabled")
	})
}

func testDocumentedPermissionsSuffice(t *testing.T) {
	t.Parallel()
	allowed := []string{"$JS.API.STREAM.NAMES"}
	for _, stream := range fleetStreams() {
		for _, verb := range []string{"INFO", "CREATE"} {
			allowed = append(allowed, "$JS.API.STREAM."+verb+"."+stream.Name)
		}
	}
	for _, consumer := range fleetConsumers() {
		for _, verb := range []string{"INFO", "CREATE"} {
			allowed = append(allowed, "$JS.API.CONSUMER."+verb+"."+consumer.Stream+"."+consumer.Name)
		}
	}
	s := natstest.StartServer(t, func(o *natsd.Options) {
		o.Users = []*natsd.User{
			{Username: "bridge", Password: "p", Permissions: &natsd.Permissions{
				Publish:   &natsd.SubjectPermission{Allow: allowed},
				Subscribe: &natsd.SubjectPermission{Allow: []string{"_INBOX_bridge.>"}},
			}},
			{Username: "nobody", Password: "p", Permissions: &natsd.Permissions{
				Publish: &natsd.SubjectPermission{Deny: []string{"$JS.>"}},
			}},
		}
	})
	as := func(user, inbox string) natsjs.JetStream {
		o := conn.Options{URL: s.URL(), User: user, Password: "p", InboxPrefix: inbox}
		nc, err := conn.Connect(o)
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		js, err := o.JetStream(nc)
		require.NoError(t, err)
		return js
	}
	bridge := as("bridge", "_INBOX_bridge")
	report, err := streams.Manage(natstest.Context(t), bridge, streams.ManageCreate, fleetStreams(), fleetConsumers())
	require.NoError(t, err)
	require.Len(t, report.Created, 7)
	_, err = streams.Manage(natstest.Context(t), bridge, streams.ManageVerify, fleetStreams(), fleetConsumers())
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = streams.Plan(ctx, as("nobody", ""), fleetStreams(), nil)
	require.ErrorContains(t, err, "no answer on $JS.API.STREAM.INFO.TELEMETRY: the user may lack the permission")
}

// The error names the subject of the request.
func TestNoAnswerSubject(t *testing.T) {
	t.Parallel()
	s := natstest.StartServer(t, nil)
	for name, o := range map[string]conn.Options{"domain": {Domain: "hub"}, "prefix": {APIPrefix: "tenant.js"}, "prefix with dot": {APIPrefix: "tenant.js."}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o.URL = s.URL()
			nc, err := conn.Connect(o)
			require.NoError(t, err)
			t.Cleanup(nc.Close)
			js, err := o.JetStream(nc)
			require.NoError(t, err)
			api, err := o.API()
			require.NoError(t, err)
			requests, err := nc.SubscribeSync(api + ".>") // receives the requests and does not answer
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			_, err = streams.Read(ctx, js, fleetStreams())
			request, missed := requests.NextMsgWithContext(natstest.Context(t))
			require.NoError(t, missed)
			require.ErrorContains(t, err, "no answer on "+request.Subject+": ")
		})
	}
}

func TestDifferenceMarks(t *testing.T) {
	t.Parallel()
	js, specs, consumers := world(t)
	d, err := streams.Plan(natstest.Context(t), js, specs, consumers)
	require.NoError(t, err)
	text := d.String()
	for i, want := range "+~!=!" {
		require.Contains(t, text, fmt.Sprintf("%c stream %s\n", want, specs[i].Name))
	}
	require.NotContains(t, text, "\t")
	for line := range strings.Lines(text) {
		require.Equal(t, strings.TrimRight(line, " \n")+"\n", line)
	}
}

// A start by time is used to replay a part of a stream.
func testConsumerStartByTimeIsANote(t *testing.T) {
	t.Parallel()
	js := natstest.JetStream(t, natstest.StartServer(t, nil))
	specs := []streams.Spec{{Name: "T", Subjects: []string{"t.>"}}}
	_, err := streams.Manage(natstest.Context(t), js, streams.ManageCreate, specs, nil)
	require.NoError(t, err)
	start := time.Now().Add(-time.Hour)
	_, err = js.CreateConsumer(natstest.Context(t), "T", natsjs.ConsumerConfig{
		Durable: "replay", AckPolicy: natsjs.AckExplicitPolicy, DeliverPolicy: natsjs.DeliverByStartTimePolicy, OptStartTime: &start,
	})
	require.NoError(t, err)
	report, err := streams.Manage(natstest.Context(t), js, streams.ManageVerify, specs, []streams.ConsumerSpec{{Stream: "T", Name: "replay"}})
	require.NoError(t, err)
	require.Contains(t, strings.Join(report.Notes, "\n"), "deliver_policy")
}
