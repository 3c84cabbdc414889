package peers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/testrun"
)

// NATSCluster is a cluster of three nats-servers with JetStream.
type NATSCluster struct {
	// Nodes are named n0, n1 and n2.
	Nodes []*NATSProcess

	t  testing.TB
	js natsjs.JetStream
}

// Cluster starts three nats-servers with JetStream and waits until they have elected a leader.
func Cluster(t testing.TB) *NATSCluster {
	t.Helper()
	c := &NATSCluster{t: t}
	routes := make([]string, 3)
	for i := range routes {
		routes[i] = testrun.Address(t).String()
	}
	for i, listen := range routes {
		// The nodes do not advertise their addresses, so that clients do not bypass a proxy in front
		// of a node.
		text := fmt.Sprintf("server_name: n%d\ncluster { name: peers, listen: %q, no_advertise: true, routes: [%s] }\n",
			i, listen, "nats://"+strings.Join(routes, ", nats://"))
		n := newNATSServer(t, NATSOptions{Config: text})
		n.name = fmt.Sprintf("nats-server n%d", i)
		n.start()
		c.Nodes = append(c.Nodes, n)
	}
	nc, err := nats.Connect(c.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		// A frozen node does not close its connections, so pings must detect it.
		nats.PingInterval(500*time.Millisecond), nats.MaxPingsOutstanding(2), nats.Timeout(testrun.Timeout))
	require.NoError(t, err, "connect to the cluster")
	t.Cleanup(nc.Close)
	c.js, err = natsjs.New(nc)
	require.NoError(t, err)
	c.await("a leader of the cluster", func(ctx context.Context) error {
		_, err := c.js.AccountInfo(ctx)
		return err
	})
	return c
}

// URL returns the URLs of all nodes, comma-separated.
func (c *NATSCluster) URL() string {
	urls := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		urls[i] = n.URL
	}
	return strings.Join(urls, ",")
}

// Leader returns the leader of a stream. It waits until one is elected.
func (c *NATSCluster) Leader(stream string) *NATSProcess {
	c.t.Helper()
	var leader *NATSProcess
	c.await("a leader of "+stream, func(ctx context.Context) error {
		info, err := c.info(ctx, stream)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(c.Nodes, func(n *NATSProcess) bool { return strings.HasSuffix(n.name, " "+info.Cluster.Leader) })
		if i < 0 {
			return errors.New("no leader")
		}
		leader = c.Nodes[i]
		return nil
	})
	return leader
}

// StepDown makes the leader of a stream step down. Leader returns its successor.
func (c *NATSCluster) StepDown(stream string) {
	c.t.Helper()
	c.await("the step-down of "+stream, func(ctx context.Context) error {
		response, err := c.js.Conn().RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil)
		if err != nil {
			return err
		}
		if !strings.Contains(string(response.Data), `"success":true`) {
			return errors.New(string(response.Data))
		}
		return nil
	})
}

// AwaitCurrent waits until every replica of a stream is current.
func (c *NATSCluster) AwaitCurrent(stream string) {
	c.t.Helper()
	c.await("all replicas of "+stream, func(ctx context.Context) error {
		info, err := c.info(ctx, stream)
		if err != nil {
			return err
		}
		if info.Cluster.Leader == "" {
			return errors.New("no leader")
		}
		for _, r := range info.Cluster.Replicas {
			if !r.Current || r.Offline {
				return fmt.Errorf("replica %s: %+v", r.Name, *r)
			}
		}
		return nil
	})
}

// RollingRestart restarts the nodes one by one. Before the next node, it waits until all replicas of
// the stream are current.
func (c *NATSCluster) RollingRestart(stream string) {
	c.t.Helper()
	for _, n := range c.Nodes {
		n.Restart()
		c.AwaitCurrent(stream)
	}
}

func (c *NATSCluster) info(ctx context.Context, stream string) (*natsjs.StreamInfo, error) {
	s, err := c.js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	info := s.CachedInfo()
	if info.Cluster == nil {
		return nil, errors.New("the stream is not replicated")
	}
	return info, nil
}

// await calls check until it returns nil. An election takes 4 to 9 s, and several elections may be
// needed.
func (c *NATSCluster) await(what string, check func(context.Context) error) {
	c.t.Helper()
	deadline := time.Now().Add(2 * testrun.Timeout)
	for {
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
		err := check(ctx)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) || c.t.Context().Err() != nil {
			c.t.Fatalf("wait for %s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
