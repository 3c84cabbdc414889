package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/internal/measure"
	"mqtt-nats-bridge/internal/port"
	"mqtt-nats-bridge/internal/sleep"
)

// servers is the nats-server process of a scenario, or a cluster of them.
type servers struct {
	processes []*measure.Process
	releases  []func() // release the reserved ports of the routes
	url       string   // of the first server; used by the bridge and the bare publisher
	leaf      string   // the first server's listener for leaf nodes
}

// startServer starts a single nats-server.
func startServer(ctx context.Context, dir string) (*servers, error) {
	s := &servers{}
	if err := s.start(ctx, "--store", dir); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// startCluster starts n nats-servers with routes between them and waits until
// JetStream has a leader.
func startCluster(ctx context.Context, dir string, n int) (*servers, error) {
	s := &servers{}
	routes := make([]string, n)
	for i := range routes {
		listen, release, err := port.Reserve()
		if err != nil {
			return nil, errors.Join(err, s.stop())
		}
		routes[i], s.releases = listen.String(), append(s.releases, release)
	}
	for i, listen := range routes {
		name := fmt.Sprintf("n%d", i)
		if err := s.start(ctx, "--store", filepath.Join(dir, name), "--name", name, "--cluster", listen,
			"--routes", "nats://"+strings.Join(routes, ",nats://")); err != nil {
			return nil, errors.Join(err, s.stop())
		}
	}
	if err := s.awaitLeader(ctx, time.Minute); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func (s *servers) start(ctx context.Context, args ...string) error {
	p, err := measure.Start(ctx, nil, append([]string{"bench-server"}, args...)...)
	if err != nil {
		return err
	}
	s.processes = append(s.processes, p)
	url, err := p.ReadLine(20 * time.Second)
	if err != nil {
		return err
	}
	leaf, err := p.ReadLine(20 * time.Second)
	if err == nil && s.url == "" {
		s.url, s.leaf = url, leaf
	}
	return err
}

// awaitLeader waits until JetStream answers.
func (s *servers) awaitLeader(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return measure.JetStream(s.url, func(js natsjs.JetStream) error {
		for {
			// A request sent before the election is never answered.
			attempt, cancel := context.WithTimeout(ctx, time.Second)
			_, err := js.AccountInfo(attempt)
			cancel()
			if err == nil {
				return nil
			}
			if !sleep.For(ctx, 100*time.Millisecond) {
				return fmt.Errorf("the cluster has no leader after %s: %w", timeout, err)
			}
		}
	})
}

// cpu returns the CPU time of all servers together.
func (s *servers) cpu() (total time.Duration, err error) {
	for _, p := range s.processes {
		d, e := p.CPU()
		total, err = total+d, errors.Join(err, e)
	}
	return total, err
}

func (s *servers) stop() (err error) {
	for _, p := range s.processes {
		err = errors.Join(err, p.Stop())
	}
	for _, release := range s.releases {
		release()
	}
	return err
}

// purge empties the stream between runs; before the first run it creates the stream.
func (s *servers) purge(ctx context.Context, replicas int) error {
	return measure.JetStream(s.url, func(js natsjs.JetStream) error {
		stream, err := js.CreateOrUpdateStream(ctx, natsjs.StreamConfig{
			Name: "TELEMETRY", Subjects: []string{"tenant.*.device.*.*"}, Replicas: replicas,
			MaxAge: 24 * time.Hour, MaxBytes: 4 << 30, Duplicates: 2 * time.Minute,
		})
		if err != nil {
			return err
		}
		return stream.Purge(ctx)
	})
}

// remove deletes all streams.
func (s *servers) remove(ctx context.Context) error {
	return measure.JetStream(s.url, func(js natsjs.JetStream) error {
		names := js.StreamNames(ctx)
		for name := range names.Name() {
			if err := js.DeleteStream(ctx, name); err != nil {
				return err
			}
		}
		return names.Err()
	})
}

// ServerOptions configures the nats-server process of a bench. Its fields are the command's flags.
type ServerOptions struct {
	Store   string `required:"" help:"Directory of JetStream's files."`
	Name    string `help:"Name of the server in its cluster."`
	Cluster string `help:"host:port for routes; default: no cluster."`
	Routes  string `help:"URLs of the cluster's routes, comma-separated."`
}

func (o ServerOptions) configure(opts *natsd.Options) {
	opts.LeafNode.Host, opts.LeafNode.Port = "127.0.0.1", -1
	if o.Cluster == "" {
		return
	}
	opts.ServerName = o.Name
	opts.Cluster.Name = "bench"
	opts.Cluster.Host, _, _ = net.SplitHostPort(o.Cluster)
	opts.Cluster.Port, _ = strconv.Atoi(o.Cluster[strings.LastIndexByte(o.Cluster, ':')+1:])
	opts.Routes = natsd.RoutesFromStr(o.Routes)
}
