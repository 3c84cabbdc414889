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

// Options of a drill. Out, Broker, NATS, Topics and Streams are required.
type Options struct {
	// Out gets the report; a terminal gets a live table before it.
	Out io.Writer
	// JSON prints the report as one JSON object and nothing else.
	JSON bool
	// Plain prints a line per second even on a terminal.
	Plain bool
	// For is how long the devices publish; 0: until the context ends.
	For time.Duration
	// Settle bounds the wait for stragglers: how long nothing of this drill has arrived.
	Settle time.Duration

	// Broker is the devices' listener.
	Broker config.BrokerURL
	// CACert verifies the broker and, with CAKey, signs a certificate for each device.
	CACert, CAKey string
	// Certs is a directory of device certificates: NAME.pem and NAME.key.
	Certs string
	// Username and Password of every device; empty: none.
	Username, Password string

	Devices   int
	Rate      float64 // messages per second of all devices together
	Window    int     // messages in flight of one device
	Size      int     // bytes of payload, at least
	KeepAlive time.Duration
	Tenant    string // of devices that the drill names
	Topic     string // with {tenant} and {device}

	NATS conn.Options
	// Topics are the bridge's routes: where a device's message belongs.
	Topics *subjects.Set
	// DeviceRate is what the bridge lets one device publish, messages per second; 0: no
	// limit.
	DeviceRate float64
	// Streams are the streams to read; Quarantine is one of them, or empty.
	Streams    []string
	Quarantine string

	// Hijack connects as LaneClientID.
	Hijack       bool
	LaneClientID string
	// Burst is how many messages one device sends together after an outage; 0: none.
	Burst    int
	Will     bool
	Impostor bool

	lead time.Duration // before the misbehavior; 0: 5 s
	hold time.Duration // how long an attacker keeps a connection; 0: 3 s
	now  func() time.Time
}

// Defaults of the command's flags.
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

// Check returns what is wrong with the options.
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
		return errors.New("--ca-key needs --ca-cert")
	case o.CAKey != "" && o.Certs != "":
		return errors.New("give --ca-key or --certs, not both")
	case !o.Broker.Secure && (o.CACert != "" || o.Certs != ""):
		return fmt.Errorf("certificates are for TLS: write --broker mqtts://%s", o.Broker.Address)
	case o.Tenant == "" || strings.ContainsAny(o.Tenant, "/+#"):
		return fmt.Errorf("--tenant %q: must be one topic level", o.Tenant)
	case o.DeviceRate > 0 && o.Rate/float64(o.Devices) > o.DeviceRate:
		return fmt.Errorf("--rate %g of %d devices is %.1f messages per second of each, and limits.device.rate is %g: more would be rejected; give more --devices or a lower --rate", o.Rate, o.Devices, o.Rate/float64(o.Devices), o.DeviceRate)
	case o.Hijack && o.LaneClientID == "":
		return errors.New("--hijack needs --lane-client-id: the configuration has no lane of its own")
	}
	if _, err := o.subject(o.topic(Identity{CN: o.Tenant + "/d"})); err != nil {
		return fmt.Errorf("--topic %s: %w", o.Topic, err)
	}
	return nil
}

// topic is the device's topic.
func (o *Options) topic(id Identity) string {
	tenant, device, _ := strings.Cut(id.CN, "/")
	return strings.NewReplacer("{tenant}", tenant, "{device}", device).Replace(o.Topic)
}

// subject is where the bridge stores what comes under a topic.
func (o *Options) subject(topic string) (string, error) {
	var m subjects.Match
	i, ok := o.Topics.Match([]byte(topic), &m)
	if !ok {
		return "", errors.New("it matches none of the topics of the configuration")
	}
	return string(o.Topics.Route(i).Template.Append(nil, &m)), nil
}
