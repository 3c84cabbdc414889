package peers

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/testrun"
)

// MosquittoOptions configures a mosquitto. The zero value allows anonymous clients, stores nothing on
// disk and uses mosquitto's default in-flight window.
type MosquittoOptions struct {
	// Persistence stores sessions on disk. mosquitto writes them when it stops, so they survive
	// Restart. They survive Kill9 only if Signal(syscall.SIGUSR1) has saved them before.
	Persistence bool
	// MaxInflight is max_inflight_messages, the maximum number of unacknowledged messages per
	// client; 0: mosquitto's default of 20.
	MaxInflight int
	// Username and Password are the only account; empty: anonymous.
	Username, Password string
	// These PEM files enable TLS; set all three or none. The listener requires client certificates
	// and uses their CN as the user name (use_identity_as_username).
	CAFile, CertFile, KeyFile string
	// Extra contains additional lines of the configuration file.
	Extra []string
}

// MosquittoProcess is a running mosquitto.
type MosquittoProcess struct {
	Process
	// URL is tcp://127.0.0.1:port, or ssl:// with TLS.
	URL string
	// Addr is the listener's host:port.
	Addr string

	options MosquittoOptions
}

// Mosquitto starts a mosquitto on a free port of 127.0.0.1. The queue of each session is unbounded.
func Mosquitto(t testing.TB, o MosquittoOptions) *MosquittoProcess {
	t.Helper()
	path := program(t, "mosquitto")
	m := &MosquittoProcess{options: o, Addr: testrun.Address(t).String()}
	m.Process = Process{t: t, name: "mosquitto", path: path, ready: m.serves}
	m.URL = "tcp://" + m.Addr
	if o.CertFile != "" {
		m.URL = "ssl://" + m.Addr
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "mosquitto.conf")
	m.must(os.WriteFile(file, []byte(m.config(dir)), 0o600))
	m.args = []string{"-c", file}
	m.start()
	return m
}

func (m *MosquittoProcess) config(dir string) string {
	o := &m.options
	_, port, _ := net.SplitHostPort(m.Addr)
	lines := []string{
		"listener " + port + " 127.0.0.1",
		"max_queued_messages 0", // no limit
		"log_dest stderr",
		"log_type error", "log_type warning", "log_type notice", "log_type information",
	}
	if os.Geteuid() == 0 {
		// Otherwise it switches to the user mosquitto, who cannot write to dir.
		lines = append(lines, "user root")
	}
	if o.MaxInflight > 0 {
		lines = append(lines, fmt.Sprint("max_inflight_messages ", o.MaxInflight))
	}
	if o.Persistence {
		lines = append(lines, "persistence true", "persistence_location "+dir+"/",
			"autosave_interval 0") // no automatic saves
	} else {
		lines = append(lines, "persistence false")
	}
	switch {
	case o.CertFile != "":
		lines = append(lines, "cafile "+o.CAFile, "certfile "+o.CertFile, "keyfile "+o.KeyFile,
			"require_certificate true", "use_identity_as_username true")
	case o.Username != "":
		passwords := filepath.Join(dir, "passwords")
		MosquittoPasswords(m.t, passwords, o.Username, o.Password)
		lines = append(lines, "allow_anonymous false", "password_file "+passwords)
	default:
		lines = append(lines, "allow_anonymous true")
	}
	lines = append(lines, o.Extra...)
	return strings.Join(lines, "\n") + "\n"
}

// MosquittoPasswords writes a password file with one user. It uses mosquitto's tool, because the hash
// format differs between versions.
func MosquittoPasswords(t testing.TB, file, user, password string) {
	t.Helper()
	out, err := exec.Command(program(t, "mosquitto_passwd"), "-c", "-b", file, user, password).CombinedOutput()
	require.NoError(t, err, "write password file: %s", out)
}

// serves checks for the line that mosquitto logs once its listeners are open. A successful dial alone
// proves less, because another program may use the port. It then checks for an accepted connection:
// mosquitto 2.0.11 ignores a SIGTERM between that line and its main loop.
func (m *MosquittoProcess) serves() error {
	output := m.log.String()[m.running.from:]
	if !strings.Contains(output, " running\n") {
		return errors.New("it has not logged that it is running")
	}
	if strings.Contains(output, "New connection from ") {
		return nil
	}
	c, err := net.Dial("tcp", m.Addr)
	if err != nil {
		return err
	}
	_ = c.Close()
	return errors.New("it has not accepted a connection yet")
}

// Kick makes mosquitto close the connection of a client, by connecting with the same client id and
// disconnecting immediately. The session remains, and messages in flight are redelivered on the
// client's next connection. Kick does not support TLS listeners.
func (m *MosquittoProcess) Kick(clientID string) {
	m.t.Helper()
	m.must(takeOver(m.Addr, clientID, m.options.Username, m.options.Password))
}
