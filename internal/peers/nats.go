package peers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/pki"
	"mqtt-nats-bridge/internal/testrun"
)

// NATSOptions configures a nats-server. The zero value has no accounts and stores JetStream's files in
// a temporary directory.
type NATSOptions struct {
	// Config is the text of a configuration file. Its client and monitoring ports and its JetStream
	// directory are overridden.
	Config string
	// ConfigFile is the name of an existing configuration file, used instead of Config.
	ConfigFile string
	// StoreDir is the directory of JetStream's files; empty: a temporary directory.
	StoreDir string
}

// NATSProcess is a running nats-server.
type NATSProcess struct {
	Process
	// URL is nats://127.0.0.1:port, without credentials.
	URL string
	// Addr is the client listener's host:port.
	Addr string
	// StoreDir is the directory of JetStream's files.
	StoreDir string
	// MonitorURL is http://127.0.0.1:port if the configuration enables monitoring, otherwise empty.
	// It changes at each start.
	MonitorURL string
	// LeafAddr is the host:port for leaf nodes if the configuration has a leafnodes block, otherwise
	// empty. Like Addr, it does not change.
	LeafAddr string
}

// NATSServer starts this module's version of nats-server in a separate process. After Kill9 or Stop,
// Start uses the same port and store.
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

// announced checks for natsd's line "ready <host:port>" in the output of the current run.
func (n *NATSProcess) announced() error {
	output := n.log.String()[n.running.from:]
	if _, ok := line(output, "ready "); !ok {
		return errors.New("it has not logged that it accepts connections")
	}
	n.LeafAddr, _ = line(output, "leaf ")
	if monitor, ok := line(output, "monitor "); ok {
		n.MonitorURL = "http://" + monitor
	}
	return nil
}

// line returns the rest of the first complete line that begins with prefix.
func line(text, prefix string) (string, bool) {
	for l := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(l, prefix); ok && strings.HasSuffix(rest, "\n") {
			return strings.TrimSuffix(rest, "\n"), true
		}
	}
	return "", false
}

// NATSTLS issues a server certificate. It returns the tls block of a nats-server that uses it, and the
// file of the CA that clients must trust.
func NATSTLS(t testing.TB) (config, ca string) {
	t.Helper()
	dir := t.TempDir()
	authority, err := pki.New()
	require.NoError(t, err)
	ca, err = authority.WriteCA(dir)
	require.NoError(t, err)
	cert, err := authority.Server()
	require.NoError(t, err)
	files, err := pki.Write(dir, "nats", cert)
	require.NoError(t, err)
	return fmt.Sprintf("tls { cert_file: %q, key_file: %q }\n", files.Cert, files.Key), ca
}
