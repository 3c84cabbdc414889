package jetstream

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// PartitionedStream is a stream's messages sorted by what their subjects begin with,
// a device for instance, for consumers that need the order of each: all messages of
// a device are in one partition, and a partition is read by one worker at a time.
//
// It is a stream of its own, filled from the other by nats-server, which puts each
// message under partition.<number>.<its subject> by the hash of the key; it holds a
// message until its partition's worker is done with it (a work queue). The other
// stream and its consumers are left as they are. [Manage] makes it from Spec and
// Consumers.
//
// Order holds as the stream has it, and within what a handler does: a message that
// it gives back comes after those that follow. A handler that cannot have that goes
// on trying itself, as long as it likes; but after a minute without a pull its
// partition goes to another worker, if there is one.
type PartitionedStream struct {
	// Source is the stream sorted, Filter the subjects of it: every * is a
	// wildcard that Key can name. No >.
	Source, Filter string
	// Key are the wildcards that belong together, from 1: {1, 2} for tenant and
	// device of tenant.*.device.*.*.
	Key []int
	// Partitions are fixed: with another number, keys change partitions.
	Partitions int
	// Name of the stream that is made. Default: <Source>_PARTITIONED.
	Name     string
	MaxAge   time.Duration // as the source's; a message that nobody reads ends then
	Replicas int
}

// partitionToken begins the subjects within the stream.
const partitionToken = "partition"

func (p PartitionedStream) name() string {
	if p.Name != "" {
		return p.Name
	}
	return p.Source + "_PARTITIONED"
}

// prefix is what the subjects of a partition begin with.
func (p PartitionedStream) prefix(partition int) string {
	return partitionToken + "." + strconv.Itoa(partition) + "."
}

func (p PartitionedStream) consumer(partition int) string {
	return "partition-" + strconv.Itoa(partition)
}

// Spec is the stream to be made.
func (p PartitionedStream) Spec() (StreamSpec, error) {
	tokens := strings.Split(p.Filter, ".")
	wildcards := 0
	for i, token := range tokens {
		switch token {
		case "*":
			wildcards++
			tokens[i] = fmt.Sprintf("{{wildcard(%d)}}", wildcards)
		case ">":
			return StreamSpec{}, fmt.Errorf("partition stream %s: filter %q: write each token as *, for > cannot be carried over", p.Source, p.Filter)
		}
	}
	if p.Partitions < 1 || len(p.Key) == 0 {
		return StreamSpec{}, fmt.Errorf("partition stream %s: at least one partition and one wildcard in the key are required", p.Source)
	}
	hash := strconv.Itoa(p.Partitions)
	for _, n := range p.Key {
		if n < 1 || n > wildcards {
			return StreamSpec{}, fmt.Errorf("partition stream %s: key %d: filter %q has %d wildcards", p.Source, n, p.Filter, wildcards)
		}
		hash += "," + strconv.Itoa(n)
	}
	return StreamSpec{
		Name: p.name(), Description: "messages of " + p.Source + " in partitions, until they are read",
		Transformed: &TransformedSource{Stream: p.Source, From: p.Filter, To: partitionToken + ".{{partition(" + hash + ")}}." + strings.Join(tokens, ".")},
		Retention:   natsjs.WorkQueuePolicy, MaxAge: p.MaxAge, Replicas: p.Replicas,
	}, nil
}

// Consumers are to be made, one a partition.
func (p PartitionedStream) Consumers() []ConsumerSpec {
	specs := make([]ConsumerSpec, p.Partitions)
	for i := range specs {
		specs[i] = ConsumerSpec{
			Stream: p.name(), Name: p.consumer(i), FilterSubjects: []string{p.prefix(i) + ">"}, OneAtATime: true,
		}
	}
	return specs
}

// Workers are for one partition, 0 to Partitions-1: run as many partitions in a
// process as it shall carry, and the same ones in another that is to take over from
// it. Stream, Consumer, Workers and SubjectPrefix of the options are set here;
// handlers see the subjects of the source.
func (p PartitionedStream) Workers(partition int, o WorkersOptions) (*Workers, error) {
	if partition < 0 || partition >= p.Partitions {
		return nil, fmt.Errorf("set up workers: partition %d of %d", partition, p.Partitions)
	}
	o.Stream, o.Consumer, o.Workers, o.SubjectPrefix = p.name(), p.consumer(partition), 1, p.prefix(partition)
	return NewWorkers(o)
}
