// Command comparison measures one tool that moves MQTT messages into JetStream: its CPU time and
// throughput, and how many messages are lost, duplicated or out of order when the tool is killed or
// nats-server is stopped. See docs/comparison/README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"mqtt-nats-bridge/internal/measure"
)

// idle is the time without a newly stored message after which a run ends.
const idle = 15 * time.Second

// limit bounds a run: a tool may store duplicates indefinitely.
const limit = 75 * time.Second

// These are the topics of the load, and of the single message that `-fault space` adds.
const (
	plain  = "tenant/acme/device/dev-%d/telemetry"
	spaced = "tenant/acme/device/dev %d/telemetry"
)

type run struct {
	tool     string
	fault    string
	messages int
	size     int
	devices  int

	port                   string   // the load publishes to it
	broker, server, bridge *process // bridge is nil for the nats-server's own MQTT
	stream                 natsjs.Stream
	restarted              bool // the tool stopped delivering and was restarted
}

func main() {
	r := run{}
	var natsServer, command string
	flag.StringVar(&r.tool, "tool", "", "name of the row; nats-mqtt needs no -command")
	flag.StringVar(&command, "command", "", "command line of the tool")
	flag.StringVar(&natsServer, "nats-server", "nats-server --config nats.conf --store_dir", "command line of nats-server; the store directory is appended")
	flag.StringVar(&r.fault, "fault", "none", "none, kill (-9, twice), stop (nats-server for 10 s) or space (one topic with a space)")
	flag.IntVar(&r.messages, "messages", 100000, "messages")
	flag.IntVar(&r.size, "size", 256, "bytes of a payload")
	flag.IntVar(&r.devices, "devices", 1000, "devices")
	flag.Parse()
	dir, err := os.MkdirTemp("", "comparison")
	if err == nil {
		if err = r.measure(dir, natsServer, command); err != nil {
			log, _ := os.ReadFile(filepath.Join(dir, "tool.log"))
			os.Stderr.Write(log[max(0, len(log)-2000):])
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "comparison:", err)
		os.Exit(1)
	}
}

func (r *run) measure(dir, natsServer, command string) (err error) {
	var started []*process
	defer func() {
		for _, p := range started {
			p.stop()
		}
	}()
	start := func(name, line string) *process {
		p := &process{name: name, line: line, dir: dir}
		err = errors.Join(err, p.start())
		started = append([]*process{p}, started...)
		return p
	}
	r.broker = start("mosquitto", "mosquitto -c mosquitto.conf")
	r.server = start("nats-server", natsServer+" "+filepath.Join(dir, "store"))
	if err != nil {
		return err
	}
	nc, err := nats.Connect("nats://127.0.0.1:14222", nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond),
		nats.RetryOnFailedConnect(true))
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := r.createStream(nc); err != nil {
		return err
	}
	r.port = "18831"
	if command != "" {
		r.port = "18830"
		if r.bridge = start("tool", strings.ReplaceAll(command, "DIR", dir)); err != nil {
			return err
		}
	}
	return r.load()
}

func (r *run) createStream(nc *nats.Conn) error {
	js, err := natsjs.New(nc)
	if err != nil {
		return err
	}
	config := natsjs.StreamConfig{Name: "TELEMETRY", Subjects: []string{"tenant.>"}, Duplicates: 2 * time.Minute}
	for range 100 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		r.stream, err = js.CreateOrUpdateStream(ctx, config)
		cancel()
		if err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

// load publishes the messages, injects the fault and prints one row of the table.
func (r *run) load() error {
	if err := r.awaitSubscription(); err != nil {
		return err
	}
	before := r.cpu()
	began := time.Now()
	published := make(chan struct{})
	go func() { r.publisher("load", plain, 0).run(r.messages); close(published) }()
	faulted := make(chan error, 1)
	go func() { faulted <- r.inject() }()
	last := r.await()
	after := r.cpu()
	<-published
	if err := <-faulted; err != nil {
		return err
	}
	time.Sleep(5 * time.Second) // wait for late duplicates
	c, err := r.count()
	if err != nil {
		return err
	}
	perMessage := func(i int) string {
		if r.fault == "kill" || r.fault == "stop" && i == 2 || r.restarted || after[i] == 0 {
			return "-" // the CPU time of a restarted process began at zero
		}
		return fmt.Sprintf("%.1f", float64((after[i]-before[i]).Microseconds())/float64(r.messages))
	}
	note := ""
	if r.restarted {
		note = "delivered only after a restart"
	}
	fmt.Printf("| %s | %s | %.0f | %s | %s | %s | %d | %d | %d | %s |\n", r.tool, r.fault,
		float64(r.messages)/last.Sub(began).Seconds(), perMessage(0), perMessage(1), perMessage(2),
		r.messages-c.unique, c.total-c.unique, c.disordered, note)
	return nil
}

func (r *run) publisher(client, topic string, first int) *publisher {
	return &publisher{address: "127.0.0.1:" + r.port, client: client, topic: topic, size: r.size, devices: r.devices, first: first}
}

// awaitSubscription publishes single messages until one of them is stored.
func (r *run) awaitSubscription() error {
	for range 200 {
		r.publisher("probe", plain, 0).run(1)
		time.Sleep(500 * time.Millisecond)
		if n, _ := r.stored(); n > 0 {
			time.Sleep(time.Second)
			return r.stream.Purge(context.Background())
		}
	}
	return errors.New("the tool stores nothing")
}

func (r *run) cpu() (used [3]time.Duration) {
	for i, p := range []*process{r.bridge, r.broker, r.server} {
		if p != nil {
			used[i], _ = measure.CPUOf(p.pid())
		}
	}
	return used
}

// inject injects the fault when a quarter of the messages is stored; kill is repeated at half.
func (r *run) inject() error {
	target, pause, times := r.bridge, time.Duration(0), 0
	switch r.fault {
	case "kill":
		times = 2
	case "space":
		go r.publisher("odd", spaced, r.messages).run(r.messages + 1)
	case "stop":
		target, pause, times = r.server, 10*time.Second, 1
	}
	if target == nil {
		target = r.server
	}
	for i := range times {
		for n, _ := r.stored(); n < uint64(r.messages*(i+1)/4); n, _ = r.stored() {
			time.Sleep(20 * time.Millisecond)
		}
		if pause > 0 {
			target.stop()
		} else {
			target.kill()
		}
		time.Sleep(pause)
		if err := target.start(); err != nil {
			return err
		}
	}
	return nil
}

// await waits until as many messages are stored as were published. If nothing is stored for idle,
// it restarts the tool once, then gives up. limit bounds the wait. It returns the time of the last
// stored message.
func (r *run) await() time.Time {
	last, before, end := time.Now(), uint64(0), time.Now().Add(limit)
	for {
		n, err := r.stored()
		if err == nil && n > before {
			last, before = time.Now(), n
		}
		if r.complete(n) || time.Now().After(end) {
			return last
		}
		if time.Since(last) > idle {
			if r.restarted || r.bridge == nil {
				return last
			}
			r.restarted = true
			r.bridge.stop()
			if r.bridge.start() != nil {
				return last
			}
			last = time.Now()
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// complete reports whether all messages are stored. It reads the stream only if the number of
// messages does not decide that.
func (r *run) complete(stored uint64) bool {
	if stored < uint64(r.messages) {
		return false
	}
	if r.fault == "none" {
		return true
	}
	time.Sleep(time.Second)
	c, _ := r.count() // load counts again and reports the error
	return c.unique == r.messages
}

func (r *run) stored() (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	info, err := r.stream.Info(ctx)
	if err != nil {
		return 0, err
	}
	return info.State.Msgs, nil
}
