// Command natsd runs this module's version of nats-server, with JetStream enabled, as a process that
// tests can kill.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"mqtt-nats-bridge/jetstream/embedded"
)

// readyTimeout covers the recovery of a large store after a kill.
const readyTimeout = 60 * time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "natsd:", err)
		os.Exit(1)
	}
}

func run() error {
	config := flag.String("config", "", "nats-server configuration `file`")
	port := flag.Int("port", -1, "client `port` on 127.0.0.1; -1: a free port")
	leaf := flag.Int("leaf-port", -1, "`port` for leaf nodes on 127.0.0.1, if the configuration has a leafnodes block")
	store := flag.String("store-dir", "", "JetStream `directory`")
	flag.Parse()

	options := &server.Options{}
	if *config != "" {
		var err error
		if options, err = server.ProcessConfigFile(*config); err != nil {
			return fmt.Errorf("read configuration: %w", err)
		}
	}
	options.Host, options.Port = "127.0.0.1", *port
	options.JetStream = true
	if *store != "" {
		options.StoreDir = *store
	}
	if options.HTTPPort != 0 {
		// A fixed monitoring port would prevent tests from running in parallel.
		options.HTTPHost, options.HTTPPort = "127.0.0.1", -1
	}
	if options.LeafNode.Port != 0 {
		options.LeafNode.Host, options.LeafNode.Port = "127.0.0.1", *leaf
	}
	if options.JetStreamMaxStore == 0 {
		// nats-server's default is three quarters of the free disk space. The streams of the tests
		// would fit on some machines and not on others.
		options.JetStreamMaxStore = embedded.DefaultMaxStore
	}
	options.NoSigs = true

	// Registered before the server starts, so that an early SIGTERM does not kill the process.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)

	ns, err := server.NewServer(options)
	if err != nil {
		return fmt.Errorf("create server: %w", err)
	}
	ns.ConfigureLogger()
	go ns.Start()
	if !ns.ReadyForConnections(readyTimeout) {
		return fmt.Errorf("start server: not ready after %v", readyTimeout)
	}
	// The tests wait for these lines. They are on standard output; the server's log is on standard
	// error.
	if monitor := ns.MonitorAddr(); monitor != nil {
		fmt.Printf("monitor %v\n", monitor)
	}
	if options.LeafNode.Port != 0 {
		fmt.Printf("leaf 127.0.0.1:%d\n", options.LeafNode.Port)
	}
	fmt.Printf("ready %v\n", ns.Addr())
	<-stop
	ns.Shutdown()
	ns.WaitForShutdown()
	return nil
}
