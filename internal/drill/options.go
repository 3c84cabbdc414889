package drill

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/jetstream/conn"
	"mqtt-nats-bridge/subjects"
)

// Options configures a drill. Out, Broker, NATS, Topics and Streams are required.
type Options struct {
	// Out is the writer for the report. On a terminal, a live table precedes the report.
	Out io.Writer
	// JSON prints the report as one JSON object and nothing else.
	JSON bool
	// Plain prints a line per second even on a terminal.
	Plain bool
	// For is how long the devices publish; 0: until the context ends.
	For time.Duration
	// Settle ends the wait for late messages when no message of this drill has arrived for so long.
	Settle time.Duration

	// Broker is the devices' listener.
	Broker config.BrokerURL
	// CACert verifies the broker. Together with CAKey, it signs a certificate per device.
	CACert, CAKey string
	// Certs is a directory with device certificates NAME.pem and keys NAME.key.
	Certs string
	// Username and Password are used by every device; empty: none.
	Username, Password string

	Devices   int
	Rate      float64 // messages per second of all devices together
	Window    int     // maximum number of messages in flight per device
	Size      int     // minimum payload size in bytes
	KeepAlive time.Duration
	Tenant    string // tenant of the devices that the drill names
	Topic     string // topic with {tenant} and {device}

	NATS conn.Options
	// Topics are the bridge's routes. They determine the subject of a device's message.
	Topics *subjects.Set
	// DeviceRate is the bridge's limit per device, in messages per second; 0: no limit.
	DeviceRate float64
	// Streams are the streams to read; Quarantine is one of them, or empty.
	Streams    []string
	Quarantine string

	// Hijack lets a device connect as LaneClientID.
	Hijack       bool
	LaneClientID string
	// Burst is the number of messages that one device publishes after an outage; 0: none.
	Burst    int
	Will     bool
	Impostor bool

	lead time.Duration // delay before the misbehavior; 0: 5 s
	hold time.Duration // how long an attacker keeps a connection open; 0: 3 s
	now  func() time.Time
}

// The defaults of the command's flags.
const (
	DefaultDevices   = 100
	DefaultRate      = 100
	DefaultWindow    = 20
	DefaultSize      = 256
	DefaultKeepAlive = 30 * time.Second
	DefaultTenant    = "drill"
	DefaultTopic     = "tenant/{tenant}/device/{device}/telemetry"
	DefaultSettle    = 30 * time.Second
)

// Check returns the first error of the options.
func (o *Options) Check() error {
	switch {
	case o.Devices < 1 || o.Devices > 10_000:
		return fmt.Errorf("--devices %d: must be 1 to 10000", o.Devices)
	case !(o.Rate >= 0.01 && o.Rate <= 100_000):
		return fmt.Errorf("--rate %g: must be 0.01 to 100000", o.Rate)
	case o.Window < 1 || o.Window > 65_535:
		return fmt.Errorf("--window %d: must be 1 to 65535", o.Window)
	case o.Burst < 0 || o.Burst > 1_000_000:
		return fmt.Errorf("--burst %d: must be 1 to 1000000", o.Burst)
	case o.Size < 0 || o.Size > 1<<20:
		return fmt.Errorf("--size %d: must be at most 1048576", o.Size)
	case o.For < 0 || o.Settle <= 0:
		return errors.New("--for and --settle must be positive")
	case o.KeepAlive < time.Second || o.KeepAlive > time.Hour:
		return fmt.Errorf("--keepalive %s: must be 1s to 1h", o.KeepAlive)
	case o.CAKey != "" && o.CACert == "":
		return errors.New("--ca-key requires --ca-cert")
	case o.CAKey != "" && o.Certs != "":
		return errors.New("give either --ca-key or --certs, not both")
	case !o.Broker.Secure && (o.CACert != "" || o.Certs != ""):
		return fmt.Errorf("certificates require TLS: write --broker mqtts://%s", o.Broker.Address)
	case o.Tenant == "" || strings.ContainsAny(o.Tenant, "/+#"):
		return fmt.Errorf("--tenant %q: must be one topic level", o.Tenant)
	case o.DeviceRate > 0 && o.Rate/float64(o.Devices) > o.DeviceRate:
		return fmt.Errorf("--rate %g with %d devices is %.1f messages per second per device, and limits.device.rate is %g: messages above it would be rejected; give more --devices or a lower --rate", o.Rate, o.Devices, o.Rate/float64(o.Devices), o.DeviceRate)
	case o.Hijack && o.LaneClientID == "":
		return errors.New("--hijack requires --lane-client-id: the configuration has no fixed lanes")
	}
	if _, err := o.subject(o.topic(Identity{CN: o.Tenant + "/d"})); err != nil {
		return fmt.Errorf("--topic %s: %w", o.Topic, err)
	}
	return nil
}

// topic returns the device's topic.
func (o *Options) topic(id Identity) string {
	tenant, device, _ := strings.Cut(id.CN, "/")
	return strings.NewReplacer("{tenant}", tenant, "{device}", device).Replace(o.Topic)
}

// subject returns the subject under which the bridge stores messages of a topic.
func (o *Options) subject(topic string) (string, error) {
	var m subjects.Match
	i, ok := o.Topics.Match([]byte(topic), &m)
	if !ok {
		return "", errors.New("matches none of the configured topics")
	}
	return string(o.Topics.Route(i).Template.Append(nil, &m)), nil
}
