package check

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/daemon"
)

// stepTimeout bounds each step with a peer: dial, handshake, answer.
const stepTimeout = 10 * time.Second

// Broker reports whether the MQTT broker can be reached, takes the credentials
// and grants every lane's filters, and what can be seen of its settings. Each
// step needs the one before.
func Broker(ctx context.Context, c *config.Config, plan *daemon.Plan, r *Report) {
	b := &brokerCheck{config: c, report: r, suffix: "-check-" + strings.ToLower(rand.Text()[:8])}
	conn, ok := b.dial(ctx)
	if !ok {
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	s := newSession(conn)
	if !b.connect(s) || !b.subscribe(s, plan) {
		return
	}
	b.settings(b.version(s))
	s.disconnect()
}

type brokerCheck struct {
	config *config.Config
	report *Report
	// suffix makes client id and $share group ours alone.
	suffix string
}

// dial opens the connection, with TLS where the URL says so.
func (b *brokerCheck) dial(ctx context.Context) (net.Conn, bool) {
	m, r := b.config.MQTT, b.report
	dialer := net.Dialer{Timeout: stepTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", m.URL.Address())
	if err != nil {
		r.Fail("mqtt", "%s cannot be reached: %v: %s", m.URL, err, dialAdvice(err))
		return nil, false
	}
	settings, err := m.TLSConfig()
	if err != nil {
		_ = conn.Close()
		r.Fail("mqtt tls", "%v: mend the file", err)
		return nil, false
	}
	if settings == nil {
		r.OK("mqtt", "%s answers, in plain text", m.URL)
		return conn, true
	}
	secure := tls.Client(conn, settings)
	handshake, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := secure.HandshakeContext(handshake); err != nil {
		_ = conn.Close()
		r.Fail("mqtt tls", "%s: %v: %s", m.URL, err, tlsAdvice(err))
		return nil, false
	}
	state := secure.ConnectionState()
	r.OK("mqtt", "%s answers, %s, certificate of %s valid until %s", m.URL, tls.VersionName(state.Version),
		settings.ServerName, state.PeerCertificates[0].NotAfter.UTC().Format(time.DateOnly))
	return secure, true
}

// connect sends CONNECT and tells refusals apart.
func (b *brokerCheck) connect(s *session) bool {
	m, r := b.config.MQTT, b.report
	id := m.ClientID + b.suffix
	code, err := s.connect(id, m.Username, m.Password.Reveal())
	switch {
	case err != nil:
		r.Fail("mqtt connect", "no answer to CONNECT: %v: %s", err, connectAdvice(err, m.URL.Secure))
	case code == 0:
		r.OK("mqtt connect", "accepted %s as client %s", user(m.Username), id)
	case (code == 4 || code == 5) && m.Username == "" && m.TLS.Cert == "":
		r.Fail("mqtt connect", "the broker wants credentials (CONNACK %d) and none are configured: give mqtt.username and mqtt.password_file", code)
	case code == 4 || code == 5:
		r.Fail("mqtt connect", "the broker refused the credentials of %s (CONNACK %d): check mqtt.username, mqtt.password_file and the broker's users", user(m.Username), code)
	case code == 2:
		r.Fail("mqtt connect", "the broker refused the client id %s (CONNACK 2): check mqtt.client_id and what ids the broker allows", id)
	case code == 3:
		r.Fail("mqtt connect", "the broker is not available (CONNACK 3): see its log, try again")
	default:
		r.Fail("mqtt connect", "the broker refused MQTT 3.1.1 (CONNACK %d): enable version 3.1.1 there", code)
	}
	return err == nil && code == 0
}

func user(name string) string {
	if name == "" {
		return "no user name"
	}
	return "user " + name
}

// subscribe asks for every lane's filters and names each that is refused.
func (b *brokerCheck) subscribe(s *session, plan *daemon.Plan) bool {
	r := b.report
	lanes := plan.Lanes
	if b.config.MQTT.Share != "" {
		lanes = lanes[:1] // the members of a group have the same filters
	}
	var filters, asked []string
	for _, lane := range lanes {
		for _, f := range lane.Filters {
			filters, asked = append(filters, f), append(asked, b.ownGroup(f))
		}
	}
	codes, err := s.subscribe(asked)
	if err != nil {
		r.Fail("mqtt subscribe", "no answer to SUBSCRIBE %s: %v: a broker may close the connection instead of refusing a filter; see its log and its ACL for %s",
			strings.Join(filters, " "), err, user(b.config.MQTT.Username))
		return false
	}
	granted := 0
	for i, f := range filters {
		switch codes[i] {
		case 1:
			granted++
		case 0:
			r.Fail("mqtt subscribe", "%s is granted at QoS 0 only, messages could be lost: allow QoS 1 at the broker (EMQX: mqtt.max_qos_allowed)", f)
		default:
			r.Fail("mqtt subscribe", "%s is refused (SUBACK 0x%02x): allow %s to subscribe to it in the broker's ACL", f, codes[i], user(b.config.MQTT.Username))
		}
	}
	if granted == len(filters) {
		r.OK("mqtt subscribe", "all %d filters granted at QoS 1: %s", granted, examples(filters))
	}
	return true
}

// ownGroup moves a shared filter to a group of its own: as a member of the
// bridge's group the check would be given messages meant for the bridge.
func (b *brokerCheck) ownGroup(filter string) string {
	prefix := "$share/" + b.config.MQTT.Share + "/"
	if rest, ok := strings.CutPrefix(filter, prefix); ok && b.config.MQTT.Share != "" {
		return "$share/" + b.config.MQTT.Share + b.suffix + "/" + rest
	}
	return filter
}

func examples(filters []string) string {
	const shown = 3
	if len(filters) <= shown {
		return strings.Join(filters, " ")
	}
	return fmt.Sprintf("%s … %s", strings.Join(filters[:shown], " "), filters[len(filters)-1])
}
