package check

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/mqttaccount"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/mqtt"
	"mqtt-nats-bridge/mqtt/dial"
)

// stepTimeout bounds each step with a peer: dial, handshake or answer.
const stepTimeout = 10 * time.Second

// Broker checks that the MQTT broker can be reached, accepts the credentials and grants the filters
// of every lane, and checks its visible settings. Each step requires that the previous one
// succeeded.
func Broker(ctx context.Context, c *config.Config, plan *plan.Plan, r *Report) {
	suffix := "-check-" + strings.ToLower(rand.Text()[:8])
	b := &brokerCheck{config: c, report: r, suffix: suffix, options: mqttaccount.Options(c.MQTT, c.MQTT.ClientID+suffix)}
	conn, ok := b.dial(ctx)
	if !ok {
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if _, err := mqtt.Greet(ctx, conn, b.server, b.options, true); err != nil {
		r.Fail("mqtt connect", "%s", advised(err))
		return
	}
	r.OK("mqtt connect", "accepted %s as client %s", user(c.MQTT.Username), b.options.ClientID)
	s := &session{conn: conn}
	if !b.subscribe(s, plan) {
		return
	}
	mosquitto := b.version(s)
	s.disconnect()
	b.limits(ctx, usesShare(plan))
	b.settings(mosquitto)
}

func usesShare(plan *plan.Plan) bool {
	return len(plan.Lanes) > 0 && strings.HasPrefix(plan.Lanes[0].Filters[0], "$share/")
}

type brokerCheck struct {
	config *config.Config
	report *Report
	// suffix makes the client id and the $share group unique to this check.
	suffix  string
	options mqtt.Options // of the account, with the client id of this check
	server  dial.Server  // the server that the check continues with
}

// dial opens a connection to each listener and keeps the first.
func (b *brokerCheck) dial(ctx context.Context) (first net.Conn, ok bool) {
	for _, server := range b.options.Servers {
		conn := b.dialServer(ctx, server)
		switch {
		case conn == nil:
		case first == nil:
			first, b.server = conn, server
		default:
			_ = conn.Close()
		}
	}
	return first, first != nil
}

// dialServer checks one listener. It returns nil if the listener cannot be reached.
func (b *brokerCheck) dialServer(ctx context.Context, server dial.Server) net.Conn {
	r := b.report
	conn, err := mqtt.Dial(ctx, server, b.options)
	if err != nil {
		what := "mqtt"
		if server.TLS {
			what = "mqtt tls"
		}
		r.Fail(what, "%s", advised(err))
		return nil
	}
	secure, ok := conn.(*tls.Conn)
	if web, isWeb := conn.(interface{ NetConn() net.Conn }); !ok && isWeb {
		secure, ok = web.NetConn().(*tls.Conn)
	}
	if !ok {
		r.OK("mqtt", "%s answers, in plain text", server.URL())
		return conn
	}
	state := secure.ConnectionState()
	r.OK("mqtt", "%s answers, %s, certificate of %s valid until %s", server.URL(), tls.VersionName(state.Version),
		state.ServerName, state.PeerCertificates[0].NotAfter.UTC().Format(time.DateOnly))
	return conn
}

// advised returns the text of an error with its advice.
func advised(err error) string {
	if advice := mqttaccount.Advice(err); advice != "" {
		return err.Error() + ": " + advice
	}
	return err.Error()
}

func user(name string) string {
	if name == "" {
		return "no user name"
	}
	return "user " + name
}

// who returns the user that the broker's ACL applies to, as far as it is known. With a client
// certificate, EMQX takes the user name from it (peer_cert_as_username).
func (b *brokerCheck) who() string {
	m := &b.config.MQTT
	cn := ""
	if cert, err := m.TLS.Files().Certificate(); err == nil && cert != nil {
		cn = cert.Leaf.Subject.CommonName
	}
	switch {
	case cn == "" || cn == m.Username:
		return user(m.Username)
	case m.Username == "":
		return "user " + cn + " (the certificate's CN)"
	}
	return fmt.Sprintf("user %s (or %s, the certificate's CN, if the broker takes the user name from it)", m.Username, cn)
}

// subscribe subscribes to the filters of every lane. Filters that are refused for the same reason
// share one line.
func (b *brokerCheck) subscribe(s *session, plan *plan.Plan) bool {
	r := b.report
	lanes := plan.Lanes
	if b.config.Identity.Mode != config.Attested && b.config.MQTT.Share != "" {
		lanes = lanes[:1] // all members of a group have the same filters
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
			examples(filters), err, b.who())
		return false
	}
	byCode := map[byte][]string{}
	for i, f := range filters {
		byCode[codes[i]] = append(byCode[codes[i]], f)
	}
	for _, code := range slices.Sorted(maps.Keys(byCode)) {
		which := byCode[code]
		count := fmt.Sprintf("%d of %d filters", len(which), len(filters))
		switch code {
		case 1:
			if len(which) == len(filters) {
				r.OK("mqtt subscribe", "all %d filters granted at QoS 1: %s", len(which), examples(which))
			}
		case 0:
			r.Fail("mqtt subscribe", "%s granted at QoS 0 only, messages could be lost: %s: allow QoS 1 at the broker (EMQX: mqtt.max_qos_allowed)", count, examples(which))
		default:
			r.Fail("mqtt subscribe", "%s refused (SUBACK 0x%02x): %s: allow %s to subscribe to them in the broker's ACL", count, code, examples(which), b.who())
		}
	}
	return true
}

// ownGroup moves a shared filter to a separate group: in the bridge's group, the check would
// receive messages meant for the bridge.
func (b *brokerCheck) ownGroup(filter string) string {
	rest, ok := strings.CutPrefix(filter, "$share/")
	if !ok {
		return filter
	}
	group, topic, _ := strings.Cut(rest, "/")
	return "$share/" + group + b.suffix + "/" + topic
}

func examples(filters []string) string {
	const shown = 3
	if len(filters) <= shown {
		return strings.Join(filters, " ")
	}
	return fmt.Sprintf("%s … %s", strings.Join(filters[:shown], " "), filters[len(filters)-1])
}
