package peers

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mqtt-nats-bridge/internal/pki"
	"mqtt-nats-bridge/internal/testrun"
)

// NATSOptions describe one nats-server. The zero value has JetStream in a
// directory of the test's own, and no accounts.
type NATSOptions struct {
	// Config is the text of a configuration file; its ports for clients and
	// for monitoring, and its JetStream directory, are overridden.
	Config string
	// ConfigFile is a configuration file that exists, instead of Config.
	ConfigFile string
	// StoreDir is for JetStream's files; empty: a directory of the test's own.
	StoreDir string
}

// NATSProcess is a running nats-server.
type NATSProcess struct {
	Process
	// URL is nats://127.0.0.1:port, without credentials.
	URL string
	// Addr is its host:port.
	Addr string
	// StoreDir is where JetStream keeps its files.
	StoreDir string
	// MonitorURL is http://127.0.0.1:port where the configuration asks for
	// monitoring, else empty. Another one after each start.
	MonitorURL string
	// LeafAddr is the host:port for leaf nodes where the configuration has a
	// leafnodes block, else empty. It stays the same, like Addr.
	LeafAddr string
}

// NATSServer starts a nats-server, the library that this module uses, in a
// process of its own. Start after Kill9 or Stop finds the same port and store.
func NATSServer(t testing.TB, o NATSOptions) *NATSProcess {
	t.Helper()
	n := newNATSServer(t, o)
	n.start()
	return n
}

func newNATSServer(t testing.TB, o NATSOptions) *NATSProcess {
	t.Helper()
	addr := testrun.Address(t)
	n := &NATSProcess{StoreDir: o.StoreDir, Addr: addr.String(), URL: "nats://" + addr.String()}
	n.Process = Process{t: t, name: "nats-server", path: build(t, "mqtt-nats-bridge/internal/peers/natsd")}
	if n.StoreDir == "" {
		n.StoreDir = t.TempDir()
	}
	config := o.ConfigFile
	if o.Config != "" {
		config = filepath.Join(t.TempDir(), "nats.conf")
		n.must(os.WriteFile(config, []byte(o.Config), 0o600))
	}
	n.args = []string{"-store-dir=" + n.StoreDir, fmt.Sprint("-port=", addr.Port), fmt.Sprint("-leaf-port=", testrun.Address(t).Port), "-config=" + config}
	n.ready = n.announced
	return n
}

// announced waits for natsd's line "ready <host:port>" of this very life.
func (n *NATSProcess) announced() error {
	said := n.log.String()[n.running.from:]
	if _, ok := line(said, "ready "); !ok {
		return errors.New("no word that it takes connections")
	}
	n.LeafAddr, _ = line(said, "leaf ")
	if monitor, ok := line(said, "monitor "); ok {
		n.MonitorURL = "http://" + monitor
	}
	return nil
}

// line returns the rest of the first whole line that begins with prefix.
func line(text, prefix string) (string, bool) {
	for l := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(l, prefix); ok && strings.HasSuffix(rest, "\n") {
			return strings.TrimSuffix(rest, "\n"), true
		}
	}
	return "", false
}

// NATSTLS makes a certificate and returns the tls block of a nats-server that shows it,
// and the file of the authority that clients must trust.
func NATSTLS(t testing.TB) (config, ca string) {
	t.Helper()
	dir := t.TempDir()
	authority, err := pki.New()
	if err == nil {
		ca, err = authority.WriteCA(dir)
	}
	var files pki.Files
	if err == nil {
		var cert tls.Certificate
		if cert, err = authority.Server("127.0.0.1"); err == nil {
			files, err = pki.Write(dir, "nats", cert)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("tls { cert_file: %q, key_file: %q }\n", files.Cert, files.Key), ca
}
