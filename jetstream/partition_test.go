package jetstream_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/jetstream"
)

// TestPartitionsKeepTheOrderOfEachDevice: two processes' worth of workers on the same
// partitions, one of them dying under way.
func TestPartitionsKeepTheOrderOfEachDevice(t *testing.T) {
	t.Parallel()
	js := api(t, boot(t, nil))
	source := jetstream.StreamSpec{Name: "T", Subjects: []string{"tenant.*.device.*.*"}}
	p := jetstream.PartitionedStream{Source: "T", Filter: "tenant.*.device.*.*", Key: []int{1, 2}, Partitions: 3}
	spec, err := p.Spec()
	require.NoError(t, err)
	streams := []jetstream.StreamSpec{source, spec}
	require.NoError(t, jetstream.ValidateSpecs(streams, p.Consumers()))
	_, err = jetstream.Manage(within(t), js, jetstream.ManageCreate, streams, p.Consumers())
	require.NoError(t, err)
	report, err := jetstream.Manage(within(t), js, jetstream.ManageVerify, streams, p.Consumers())
	require.NoError(t, err)
	require.True(t, report.Difference.Empty(), report.Difference)

	const devices, messages = 20, 1000
	for n := range messages {
		_, err := js.PublishAsync(fmt.Sprintf("tenant.a.device.d%d.t", n%devices), []byte(strconv.Itoa(n)))
		require.NoError(t, err)
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(patience):
		require.Fail(t, "not published")
	}

	var mu sync.Mutex
	last := map[string]int{}
	partitionOf := map[string]int{}
	count := 0
	half, all := make(chan struct{}), make(chan struct{})
	handler := func(partition int) jetstream.Handler {
		return func(_ context.Context, batch []*jetstream.Message) {
			mu.Lock()
			defer mu.Unlock()
			for _, m := range batch {
				n, err := strconv.Atoi(string(m.Data))
				if err != nil || !strings.HasPrefix(m.Subject, "tenant.a.device.d") {
					panic("not a message of this test: " + m.Subject)
				}
				if before, seen := last[m.Subject]; seen && n <= before {
					panic(fmt.Sprintf("%s: %d after %d", m.Subject, n, before))
				}
				last[m.Subject] = n
				if in, seen := partitionOf[m.Subject]; seen && in != partition {
					panic(m.Subject + " is in two partitions")
				}
				partitionOf[m.Subject] = partition
				m.Done()
				if count++; count == messages/2 {
					close(half)
				} else if count == messages {
					close(all)
				}
			}
		}
	}
	process := func() (stop func()) {
		ctx, cancel := context.WithCancel(context.Background())
		var wait sync.WaitGroup
		for n := range p.Partitions {
			w, err := p.Workers(n, jetstream.WorkersOptions{JetStream: js, Handler: handler(n), Batch: 10, BatchWait: 50 * time.Millisecond})
			require.NoError(t, err)
			wait.Go(func() { w.Run(ctx) })
		}
		return func() {
			cancel()
			wait.Wait()
		}
	}
	first, second := process(), process()
	defer second()
	receive(t, "half of the messages", half)
	first()
	// The pins of the one that left run out after a minute, or are taken away by
	// an operator: nats consumer unpin.
	for _, c := range p.Consumers() {
		stream, err := js.Stream(within(t), c.Stream)
		require.NoError(t, err)
		if err := stream.UnpinConsumer(within(t), c.Name, "one"); err != nil {
			require.ErrorContains(t, err, "pin")
		}
	}
	receive(t, "all messages", all)
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, last, devices)
	used := map[int]bool{}
	for _, n := range partitionOf {
		used[n] = true
	}
	require.Len(t, used, p.Partitions)
	// What is read is gone, and the source has everything still.
	require.Eventually(t, func() bool {
		s, err := js.Stream(within(t), "T_PARTITIONED")
		return err == nil && s.CachedInfo().State.Msgs == 0
	}, patience, 10*time.Millisecond)
	s, err := js.Stream(within(t), "T")
	require.NoError(t, err)
	require.EqualValues(t, messages, s.CachedInfo().State.Msgs)
}

func TestPartitionsAreRefusedWhereTheyMeanNothing(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]jetstream.PartitionedStream{
		"for > cannot":      {Source: "T", Filter: "t.>", Key: []int{1}, Partitions: 2},
		"has 1 wildcards":   {Source: "T", Filter: "t.*", Key: []int{2}, Partitions: 2},
		"key are required":  {Source: "T", Filter: "t.*", Partitions: 2},
		"one partition and": {Source: "T", Filter: "t.*", Key: []int{1}},
	} {
		_, err := p.Spec()
		require.ErrorContains(t, err, want)
	}
	_, err := jetstream.PartitionedStream{Source: "T", Partitions: 2}.Workers(2, jetstream.WorkersOptions{})
	require.ErrorContains(t, err, "partition 2 of 2")
}

func TestAPartitionedStreamThatDiffersIsFound(t *testing.T) {
	t.Parallel()
	js := api(t, boot(t, nil))
	p := jetstream.PartitionedStream{Source: "T", Filter: "t.*", Key: []int{1}, Partitions: 2}
	spec, err := p.Spec()
	require.NoError(t, err)
	streams := []jetstream.StreamSpec{{Name: "T", Subjects: []string{"t.*"}}, spec}
	_, err = jetstream.Manage(within(t), js, jetstream.ManageCreate, streams, nil)
	require.NoError(t, err)
	p.Partitions = 4
	streams[1], err = p.Spec()
	require.NoError(t, err)
	_, err = jetstream.Manage(within(t), js, jetstream.ManageVerify, streams, nil)
	require.ErrorIs(t, err, jetstream.ErrContradiction)
	require.ErrorContains(t, err, "sources is T t.* as partition.{{partition(2,1)}}.t.{{wildcard(1)}}, must be")
	_, err = js.CreateConsumer(within(t), "T", natsjs.ConsumerConfig{Durable: "c", AckPolicy: natsjs.AckExplicitPolicy})
	require.NoError(t, err)
	d, err := jetstream.Plan(within(t), js, nil, []jetstream.ConsumerSpec{{Stream: "T", Name: "c", OneAtATime: true}})
	require.NoError(t, err)
	require.Contains(t, d.String(), "priority_policy")
}
