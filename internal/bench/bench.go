package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"mqtt-nats-bridge/internal/measure"
)

// Options configures a bench. The zero value of a field selects its default.
type Options struct {
	Messages int           // per run at full speed; default 300,000
	Size     int           // payload in bytes; default 256
	Window   int           // messages in flight per lane; default 1,000
	Rounds   int           // of each scenario; default 3, medians are printed
	Linger   time.Duration // lane.linger of the bridge
	Devices  int           // in the memory row; default 1,000,000; -1 omits the row
	Profile  string        // directory for CPU profiles of the bridge; empty: none
	Only     string        // run only the scenarios whose name contains this text
	Out      io.Writer
}

func (o *Options) setDefaults() {
	o.Messages = cmp.Or(o.Messages, 300_000)
	o.Size = cmp.Or(o.Size, 256)
	o.Window = cmp.Or(o.Window, 1000)
	o.Rounds = cmp.Or(o.Rounds, 3)
	o.Devices = cmp.Or(o.Devices, 1_000_000)
	if o.Out == nil {
		o.Out = os.Stdout
	}
}

// scenarios returns the scenarios, one per row of the table.
func (o *Options) scenarios() []Scenario {
	all := []Scenario{
		{Name: "attested, 1 lane", Attested: true},
		{Name: "plain, 1 lane"},
		{Name: "attested, 16 lanes", Attested: true, Lanes: 16},
		{Name: "attested, 2,000/s", Attested: true, Rate: 2000, Messages: 10_000},
		{Name: "attested, 1 lane, leaf", Attested: true, Leaf: true},
		{Name: "attested, 1 lane, R3", Attested: true, Replicas: 3},
		{Name: "attested, R3, 10 devices", Attested: true, Replicas: 3, Devices: 10, Messages: max(o.Messages/10, 1)},
	}
	if o.Devices > 0 {
		name := fmt.Sprintf("attested, %s devices", measure.Thousands(o.Devices))
		all = append(all, Scenario{Name: name, Attested: true, Devices: o.Devices, Messages: o.Devices})
	}
	var chosen []Scenario
	for _, s := range all {
		if strings.Contains(s.Name, o.Only) {
			s.Window = o.Window
			s.Lanes = cmp.Or(s.Lanes, 1)
			s.Devices = cmp.Or(s.Devices, 1000)
			s.Messages = cmp.Or(s.Messages, o.Messages)
			chosen = append(chosen, s)
		}
	}
	return chosen
}

// Run measures and prints a table.
func Run(ctx context.Context, opts Options) error {
	opts.setDefaults()
	if runtime.GOOS != "linux" {
		return errors.New("bench runs only on Linux: it reads CPU times from /proc")
	}
	scenarios := opts.scenarios()
	if len(scenarios) == 0 {
		return fmt.Errorf("no scenario name contains %q", opts.Only)
	}
	dir, err := os.MkdirTemp("", "mqtt-nats-bridge-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	server, err := startServer(ctx, dir)
	if err != nil {
		return err
	}
	defer server.stop()
	b := &bench{opts: opts, dir: dir, servers: server}
	fmt.Fprintf(opts.Out, "%s, %d CPUs, %s; %d bytes at QoS 1, window %d per lane, journal, identity check and limiter on,\nJetStream file store, %d rounds, medians\n\n",
		measure.CPUName(), runtime.NumCPU(), runtime.Version(), opts.Size, opts.Window, opts.Rounds)
	var rows []row
	for _, s := range scenarios {
		r, err := b.row(ctx, s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		rows = append(rows, r)
	}
	return printTable(opts.Out, rows)
}

// row contains the medians of a scenario over all rounds.
type row struct {
	Result
	bare    float64       // messages per second of the bare publisher
	bareCPU time.Duration // per message
	ratio   float64       // median of the ratios per round
}

// row measures a scenario. If it has replicas, a cluster runs only during the scenario: idle
// servers would cost the other rows CPU time.
func (b *bench) row(ctx context.Context, s Scenario) (r row, err error) {
	if s.Replicas < 2 {
		return b.measure(ctx, s)
	}
	dir, err := os.MkdirTemp(b.dir, "cluster")
	if err != nil {
		return r, err
	}
	cluster, err := startCluster(ctx, dir, s.Replicas)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, cluster.stop(), os.RemoveAll(dir)) }()
	clustered := *b
	clustered.servers = cluster
	return clustered.measure(ctx, s)
}

// measure runs a scenario, and before each round the bare publisher. The speed of the machine
// drifts, and both runs of a pair are affected alike.
func (b *bench) measure(ctx context.Context, s Scenario) (r row, err error) {
	rounds := b.opts.Rounds
	if s.Devices > 100_000 {
		rounds = 1
	}
	var results []Result
	var bare, ratios []float64
	var bareCPU []time.Duration
	for range rounds {
		var rate float64
		if s.Rate == 0 {
			if err := b.servers.purge(ctx, s.Replicas); err != nil {
				return r, err
			}
			var cpu time.Duration
			rate, cpu, err = b.bare(ctx, s)
			if err != nil {
				return r, err
			}
			bare, bareCPU = append(bare, rate), append(bareCPU, cpu)
		}
		result, err := b.bridge(ctx, s)
		if err != nil {
			return r, err
		}
		results = append(results, result)
		if rate > 0 {
			ratios = append(ratios, result.PerSecond/rate)
		}
	}
	r.Result = medians(results)
	if len(bare) > 0 {
		r.bare, r.bareCPU, r.ratio = measure.Median(bare), measure.Median(bareCPU), measure.Median(ratios)
	}
	return r, nil
}

// bridge runs a scenario on empty streams. In leaf mode the bridge creates the streams, with their
// sources, when it is connected to the hub.
func (b *bench) bridge(ctx context.Context, s Scenario) (r Result, err error) {
	if !s.Leaf {
		err = b.servers.purge(ctx, s.Replicas)
	} else if err = b.servers.remove(ctx); err == nil {
		defer func() { err = errors.Join(err, b.servers.remove(ctx)) }()
	}
	if err != nil {
		return r, err
	}
	return b.run(ctx, s)
}

func medians(results []Result) Result {
	r := results[0]
	r.PerSecond = medianOf(results, func(r Result) float64 { return r.PerSecond })
	r.BridgeCPU = medianOf(results, func(r Result) time.Duration { return r.BridgeCPU })
	r.ServerCPU = medianOf(results, func(r Result) time.Duration { return r.ServerCPU })
	r.Allocs = medianOf(results, func(r Result) float64 { return r.Allocs })
	r.IdleRSS = medianOf(results, func(r Result) int64 { return r.IdleRSS })
	r.RSS = medianOf(results, func(r Result) int64 { return r.RSS })
	r.P50 = medianOf(results, func(r Result) time.Duration { return r.P50 })
	r.P99 = medianOf(results, func(r Result) time.Duration { return r.P99 })
	return r
}

func medianOf[T int64 | float64 | time.Duration](results []Result, field func(Result) T) T {
	var values []T
	for _, r := range results {
		values = append(values, field(r))
	}
	return measure.Median(values)
}

func printTable(out io.Writer, rows []row) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "scenario\tmsg/s\tbridge µs CPU\tserver µs CPU\tallocs\tbare msg/s\tbare µs CPU\tof bare\tp50 ms\tp99 ms\tidle MiB\tend MiB\t")
	for _, r := range rows {
		bare, bareCPU, ratio, p50, p99 := "-", "-", "-", "-", "-"
		if r.bare > 0 {
			bare, bareCPU, ratio = measure.Thousands(int(r.bare)), micros(r.bareCPU), fmt.Sprintf("%.0f %%", 100*r.ratio)
		}
		if r.P50 > 0 {
			p50, p99 = fmt.Sprintf("%.2f", r.P50.Seconds()*1e3), fmt.Sprintf("%.2f", r.P99.Seconds()*1e3)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.1f\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t\n",
			r.Scenario.Name, measure.Thousands(int(r.PerSecond)), micros(r.BridgeCPU), micros(r.ServerCPU), r.Allocs,
			bare, bareCPU, ratio, p50, p99, r.IdleRSS>>20, r.RSS>>20)
	}
	return w.Flush()
}

func micros(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/1e3) }
