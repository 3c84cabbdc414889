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

	"mqtt-nats-bridge/internal/testrun"
)

// MosquittoOptions describe one mosquitto. The zero value lets anyone in, keeps
// nothing on disk and has mosquitto's own in-flight window.
type MosquittoOptions struct {
	// Persistence keeps sessions on disk. mosquitto writes the whole of them
	// when it stops, so they outlive Restart but not Kill9, unless
	// Signal(syscall.SIGUSR1) had them saved.
	Persistence bool
	// MaxInflight is max_inflight_messages: unacknowledged messages for each
	// client; 0: mosquitto's default of 20.
	MaxInflight int
	// Username and Password are the only account; empty: anonymous.
	Username, Password string
	// TLS demands client certificates and takes the user name from their CN
	// (use_identity_as_username). PEM files; all three or none.
	CAFile, CertFile, KeyFile string
	// Extra lines for the configuration file.
	Extra []string
}

// MosquittoProcess is a running mosquitto.
type MosquittoProcess struct {
	Process
	// URL is tcp://127.0.0.1:port, or ssl:// with TLS.
	URL string
	// Addr is its host:port.
	Addr string

	options MosquittoOptions
}

// Mosquitto starts a mosquitto on a free port of 127.0.0.1, with an unbounded
// queue for each session.
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
		// Else it becomes the user mosquitto, who cannot write to dir.
		lines = append(lines, "user root")
	}
	if o.MaxInflight > 0 {
		lines = append(lines, fmt.Sprint("max_inflight_messages ", o.MaxInflight))
	}
	if o.Persistence {
		lines = append(lines, "persistence true", "persistence_location "+dir+"/",
			"autosave_interval 0") // never by itself
	} else {
		lines = append(lines, "persistence false")
	}
	switch {
	case o.CertFile != "":
		lines = append(lines, "cafile "+o.CAFile, "certfile "+o.CertFile, "keyfile "+o.KeyFile,
			"require_certificate true", "use_identity_as_username true")
	case o.Username != "":
		lines = append(lines, "allow_anonymous false", "password_file "+m.passwords(dir))
	default:
		lines = append(lines, "allow_anonymous true")
	}
	lines = append(lines, o.Extra...)
	return strings.Join(lines, "\n") + "\n"
}

func (m *MosquittoProcess) passwords(dir string) string {
	file := filepath.Join(dir, "passwords")
	MosquittoPasswords(m.t, file, m.options.Username, m.options.Password)
	return file
}

// MosquittoPasswords writes a password file with one user, with mosquitto's own tool, whose
// hash format changes between versions.
func MosquittoPasswords(t testing.TB, file, user, password string) {
	t.Helper()
	out, err := exec.Command(program(t, "mosquitto_passwd"), "-c", "-b", file, user, password).CombinedOutput()
	if err != nil {
		t.Fatalf("write password file: %v\n%s", err, out)
	}
}

// serves waits for the line that mosquitto logs once its listeners are open; a
// successful dial would prove less, as the port may be another program's. Then
// it waits for a connection to be taken: mosquitto 2.0.11 forgets a SIGTERM that
// comes between that line and its main loop.
func (m *MosquittoProcess) serves() error {
	said := m.log.String()[m.running.from:]
	if !strings.Contains(said, " running\n") {
		return errors.New("no word that it runs")
	}
	if strings.Contains(said, "New connection from ") {
		return nil
	}
	c, err := net.Dial("tcp", m.Addr)
	if err != nil {
		return err
	}
	_ = c.Close()
	return errors.New("no connection taken yet")
}

// Kick has mosquitto close the connection of a client by connecting as the same
// client id and leaving immediately: the session stays, and what it had in flight
// comes again on the client's next connection. Not for TLS listeners.
func (m *MosquittoProcess) Kick(clientID string) {
	m.t.Helper()
	m.must(takeOver(m.Addr, clientID, m.options.Username, m.options.Password))
}
