package check

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/mqttaccount"
	"mqtt-nats-bridge/internal/tlsfile"
	"mqtt-nats-bridge/mqtt"
	"mqtt-nats-bridge/mqtt/dial"
)

// takeoverWait is the time for which the device's connection is watched after the bridge has
// connected. EMQX ends a connection that is taken over before it sends CONNACK to the new one.
const takeoverWait = 3 * time.Second

// Device is a device to connect as.
type Device struct {
	URL   config.BrokerURL // the devices' listener
	Files tlsfile.Files    // without a CA: the CA of mqtt.tls
}

// DeviceClientID checks that a device cannot choose the client id of a lane. It connects as the
// device, then as the bridge, both under a client id that no lane uses. If the broker did not
// change the device's client id, the second connection ends the first. Nothing is subscribed or
// published.
func DeviceClientID(ctx context.Context, c *config.Config, d Device, r *Report) {
	d.Files.CA = cmp.Or(d.Files.CA, c.MQTT.TLS.CA)
	id := c.MQTT.ClientID + "-check-" + strings.ToLower(rand.Text()[:8])
	p := takeoverProbe{
		device: mqtt.Options{
			Servers: []dial.Server{mqttaccount.Server(d.URL)}, ClientID: id,
			Login: func() (dial.Login, error) {
				conf, err := d.Files.Config("")
				return dial.Login{TLS: conf}, err
			},
		},
		bridge: mqttaccount.Options(c.MQTT, id),
		wait:   takeoverWait,
	}
	p.report(ctx, r)
}

// takeoverProbe connects twice under the same client id.
type takeoverProbe struct {
	device, bridge mqtt.Options
	wait           time.Duration
}

func (p *takeoverProbe) report(ctx context.Context, r *Report) {
	const what, unknown = "device client ids", "whether a device can choose a lane's client id was not tried"
	url, id := p.device.Servers[0].URL(), p.device.ClientID
	device, err := open(ctx, p.device)
	if err != nil {
		r.Note(what, "%v: %s%s", err, unknown, deviceAdvice(err))
		return
	}
	defer device.leave()
	if err := device.ping(); err != nil {
		r.Note(what, "%s accepts the device and does not answer PINGREQ: %v: %s", url, err, unknown)
		return
	}
	bridge, err := open(ctx, p.bridge)
	if err != nil {
		r.Note(what, "the bridge cannot connect as client %s: %v: %s", id, err, unknown)
		return
	}
	defer bridge.leave()
	err = device.staysOpen(p.wait)
	switch {
	case err == nil:
		r.OK(what, "a device that connects to %s as client %s keeps its connection when the bridge connects as %s", url, id, id)
	case ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded):
		r.Note(what, "the device's connection to %s no longer answers PINGREQ: %v: whether a device can choose a lane's client id is unknown", url, err)
	default:
		r.Fail(what, "a device that connects to %s as client %s loses its connection to the bridge as %s, so a device could take over the session of a lane: set clientid_override in the zone of that listener, as deploy/emqx/emqx.conf does", url, id, id)
	}
}

// deviceAdvice returns the advice for a device that cannot connect. The usual advice is not used
// because it names configuration keys of the bridge.
func deviceAdvice(err error) string {
	var problem *dial.Problem
	if !errors.As(err, &problem) {
		return ""
	}
	switch problem.Cause {
	case dial.CauseRefused, dial.CauseHungUp, dial.CauseNotTLS: // the latter behind a proxy
		return "; the listener may be closed until the gate opens it"
	case dial.Cause(tlsfile.Authority):
		return "; set the CA in --device-ca"
	case dial.Cause(tlsfile.ClientCertificate):
		return "; set a device certificate that the listener trusts"
	}
	return ""
}

// open starts a clean session at the first server that accepts the client.
func open(ctx context.Context, o mqtt.Options) (*session, error) {
	var failed []error
	for _, server := range o.Servers {
		conn, _, err := mqtt.Connect(ctx, server, o, true)
		if err == nil {
			return &session{conn: conn}, nil
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

// leave ends the session and closes the connection.
func (s *session) leave() {
	s.disconnect()
	_ = s.conn.Close()
}

// staysOpen returns an error if the broker closes the connection within wait, or does not answer
// PINGREQ afterwards.
func (s *session) staysOpen(wait time.Duration) error {
	err := s.await(wait, func(packets.ControlPacket) bool { return false })
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return s.ping()
	}
	return err
}

// ping sends PINGREQ and waits for the answer.
func (s *session) ping() error {
	if err := s.send(packets.NewControlPacket(packets.Pingreq)); err != nil {
		return err
	}
	return s.await(stepTimeout, func(p packets.ControlPacket) bool {
		_, ok := p.(*packets.PingrespPacket)
		return ok
	})
}
