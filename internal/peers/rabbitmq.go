package peers

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mqtt-nats-bridge/internal/testrun"
)

// RabbitMQProcess is a running RabbitMQ with its MQTT plugin, as Debian packages it.
type RabbitMQProcess struct {
	Process
	// Addr is the host:port of its MQTT listener.
	Addr string
}

// RabbitMQ starts a RabbitMQ that allows anonymous clients. Each has its own node name, directory and
// port mapper.
func RabbitMQ(t testing.TB) *RabbitMQProcess {
	t.Helper()
	const pattern = "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"
	found, _ := filepath.Glob(pattern) // the pattern is valid
	if len(found) == 0 {
		missing(t, pattern+" does not exist")
	}
	dir, mapper := t.TempDir(), testrun.Address(t)
	epmd := &Process{t: t, name: "epmd", path: program(t, "epmd")}
	epmd.args = []string{"-address", "127.0.0.1", "-port", fmt.Sprint(mapper.Port)}
	epmd.ready = func() error { return listens(mapper.String()) }
	epmd.start()

	r := &RabbitMQProcess{Addr: testrun.Address(t).String()}
	r.Process = Process{t: t, name: "rabbitmq", path: found[len(found)-1]}
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		r.must(os.WriteFile(file, []byte(text), 0o600))
		return file
	}
	r.env = append(os.Environ(),
		"HOME="+dir,
		fmt.Sprint("ERL_EPMD_PORT=", mapper.Port),
		"ERL_EPMD_ADDRESS=127.0.0.1",
		fmt.Sprintf("RABBITMQ_NODENAME=peer-%d@localhost", mapper.Port),
		fmt.Sprint("RABBITMQ_DIST_PORT=", testrun.Address(t).Port),
		"RABBITMQ_MNESIA_BASE="+filepath.Join(dir, "mnesia"),
		"RABBITMQ_LOG_BASE="+filepath.Join(dir, "log"),
		"RABBITMQ_LOGS=-",
		"RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_CONFIG_FILE="+write("rabbitmq.conf", "listeners.tcp = none\nmqtt.allow_anonymous = true\n"+
			"mqtt.subscription_ttl = 86400000\nmqtt.listeners.tcp.1 = "+r.Addr+"\n"),
		"RABBITMQ_ENABLED_PLUGINS_FILE="+write("enabled_plugins", "[rabbitmq_mqtt].\n"),
		"RABBITMQ_ALLOW_INPUT=1", // the script replaces itself with the node
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-noshell -noinput",
	)
	r.ready = func() error { return listens(r.Addr) }
	r.startTimeout = 3 * time.Minute
	r.start()
	return r
}

// listens returns nil if a TCP connection is accepted.
func listens(addr string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}
