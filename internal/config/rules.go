package config

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/schema"
)

// rules checks what no single value shows: values that contradict each other,
// and texts with a grammar of their own.
type rules struct {
	*schema.Loader
	c *Config
}

func (l *rules) check() {
	l.certificates("mqtt.tls", l.c.MQTT.TLS.TLS)
	l.certificates("nats.tls", l.c.NATS.TLS.TLS)
	l.brokerRules()
	l.emqxRules()
	l.accountRules(&l.c.NATS.Account)
	l.leafRules()
	l.laneRules()
	l.registryRules()
	l.limitRules()
	l.streamRules()
	l.topicRules()
	l.clientIDRules()
	l.adminRules(l.c.Admin.Listen, "127.0.0.1:9464")
	l.stateRules()
}

func (l *rules) brokerRules() {
	m := &l.c.MQTT
	l.brokerCredentials()
	if l.Valid("mqtt.url") && !m.URL.Secure() && m.TLS.Given() {
		// Never plain text by accident: a configured CA implies TLS.
		l.Conflict("contradicts mqtt.url, which is plain text; write mqtts:// there, or drop this", "mqtt.tls.ca", "mqtt.tls.cert", "mqtt.tls.key", "mqtt.tls.passphrase_file", "mqtt.tls.server_name", "mqtt.tls.alpn")
	}
	l.webSocketRules()
	if l.Valid("mqtt.client_id") && !validClientID(m.ClientID) {
		l.Conflict(schema.Quote(m.ClientID)+" is not a valid client id; write 1 to 128 letters, digits or - _ . : @ = ~ %, the first a letter or digit", "mqtt.client_id")
	}
	if strings.ContainsAny(m.Share, "/+#") { // MQTT 5 §4.8.2; 3.1.1 has no shares of its own
		l.Conflict(schema.Quote(m.Share)+" is not a valid share group; write one without / + #", "mqtt.share")
	}
}

func (l *rules) webSocketRules() {
	m := &l.c.MQTT
	if !l.Valid("mqtt.url", "mqtt.headers", "mqtt.headers_file") {
		return
	}
	web := slices.ContainsFunc(m.URL.urls, webSocket)
	if m.TLS.ALPN != "" && web {
		l.Conflict("contradicts mqtt.url, where wss:// has its own ALPN protocol; drop it, or write mqtts:// there", "mqtt.tls.alpn")
	}
	if m.Headers.IsZero() {
		return
	}
	if !web {
		l.Conflict("is for the WebSocket handshake, and mqtt.url has no ws:// or wss://; drop it", "mqtt.headers_file", "mqtt.headers")
	} else if _, err := parseHeaders(m.Headers.Reveal()); err != nil {
		l.Conflict(err.Error(), "mqtt.headers_file", "mqtt.headers")
	}
}

// brokerCredentials moves user and password from the URL to their fields.
func (l *rules) brokerCredentials() {
	m := &l.c.MQTT
	if user := m.URL.takeUser(); user != nil && l.Valid("mqtt.url") {
		if m.Username != "" || !m.Password.IsZero() || !l.Valid("mqtt.password_file") {
			l.ErrorAt("mqtt.url", "mqtt.url", "contains credentials, and mqtt.username or mqtt.password gives others; keep one of the two")
		}
		password, _ := user.Password()
		m.Username, m.Password = user.Username(), schema.NewSecret(password)
		l.Derive("mqtt.url", "mqtt.username", "mqtt.password")
	}
	// [MQTT-3.1.2-22]: no user name, no password.
	if l.Valid("mqtt.username", "mqtt.url") && m.Username == "" && !m.Password.IsZero() {
		l.Conflict("is given without mqtt.username; MQTT 3.1.1 has no password without a user name", "mqtt.password_file", "mqtt.password")
	}
}

// validClientID reports whether a client id can be used: it names a file and a $share group and is
// part of message ids, which are NATS headers, so only what is safe in all is allowed. MQTT 3.1.1
// obliges a broker only to 1 to 23 letters and digits [MQTT-3.1.3-5]; what more it allows is UTF-8 without U+0000
// [MQTT-1.5.3-2] of up to 65,535 bytes. mosquitto takes that without control characters and
// noncharacters (seen with 2.0.11), those of clouds some of these characters.
func validClientID(id string) bool {
	return len(id) <= 128 && validName(id[:min(len(id), 1)]) && !strings.ContainsFunc(id, func(r rune) bool {
		return !isAlphanumeric(r) && !strings.ContainsRune("-_.:@=~%", r)
	})
}

// validName reports whether a bucket or a domain can have that name.
func validName(name string) bool {
	return name != "" && len(name) <= 100 && !strings.ContainsFunc(name, func(r rune) bool {
		return !isAlphanumeric(r) && r != '-' && r != '_'
	})
}

func isAlphanumeric(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z'
}

func (l *rules) accountRules(n *Account) {
	if n.Context != "" && !l.Given("nats.url") {
		n.URL = Servers{} // the context names them
	}
	methods := []struct {
		path  string
		given bool
	}{
		{"nats.context", n.Context != ""},
		{"nats.creds", n.Creds != ""},
		{"nats.user", n.User != ""},
		{"nats.token", !n.Token.IsZero() || n.TokenFile != ""},
		{"nats.nkey", n.NKey != ""},
		{"nats.url", n.URL.hasUser()},
	}
	first := ""
	for _, m := range methods {
		switch {
		case !m.given:
		case first == "":
			first = m.path
		default:
			at := m.path
			if at == "nats.token" && n.TokenFile != "" {
				at = "nats.token_file"
			}
			l.Conflict("gives credentials, and so does "+first+"; keep one of the two", at)
		}
	}
	hasPassword := !n.Password.IsZero() || n.PasswordFile != ""
	if l.Valid("nats.user", "nats.password", "nats.password_file") && (n.User != "") != hasPassword {
		if hasPassword {
			l.Conflict("is given without nats.user; give both", "nats.password_file", "nats.password")
		} else {
			l.Conflict("is given without a password; give nats.password or nats.password_file too", "nats.user")
		}
	}
	if n.Domain != "" && l.Valid("nats.domain") && !validDomain(n.Domain) {
		l.Conflict(schema.Quote(n.Domain)+" is not a valid JetStream domain; write 1 to 64 letters, digits, - or _, like hub", "nats.domain")
	}
	if n.InboxPrefix != "" && !validSubject(n.InboxPrefix) {
		l.Conflict(schema.Quote(n.InboxPrefix)+" is not a valid inbox prefix; write tokens separated by dots, without * > or spaces, like _INBOX_bridge", "nats.inbox_prefix")
	}
}

func validSubject(s string) bool {
	for token := range strings.SplitSeq(s, ".") {
		if token == "" || strings.ContainsAny(token, "*> \t") {
			return false
		}
	}
	return true
}

// clientIDRules come after laneRules, which decide how many lanes there are.
func (l *rules) clientIDRules() {
	c := l.c
	if !l.Valid("mqtt.client_id", "mqtt.exact_client_id", "lanes.partitions", "lanes.count", "lanes.retiring") {
		return
	}
	if lanes := len(c.Lanes.Partitions.List) + c.Lanes.Count + c.Lanes.Retiring; c.MQTT.ExactID && lanes != 1 {
		l.Conflict("is for a single lane, and there are "+strconv.Itoa(lanes)+"; drop it, or write lanes.count: 1 or one of lanes.partitions", "mqtt.exact_client_id")
	}
	if c.Lanes.Partitions.Auto && strings.ContainsAny(c.MQTT.ClientID, ":@~%") {
		l.Conflict(schema.Quote(c.MQTT.ClientID)+" begins the keys of the leases, which cannot have : @ ~ or %; write one without", "mqtt.client_id")
	}
}

func (l *rules) laneRules() {
	c := l.c
	if !l.Valid("identity.mode") {
		return
	}
	if c.Identity.Mode == Attested {
		if l.Given("lanes.count") {
			l.Conflict("contradicts identity.mode attested, where each partition has its lane; drop it, or write lanes.partitions", "lanes.count")
		}
		if l.Given("lanes.retiring") {
			l.Conflict("contradicts identity.mode attested, where no lane is ever too many; drop it", "lanes.retiring")
		}
		if c.MQTT.Share != "" && c.MQTT.Share != ShareOff {
			l.Conflict("names a share group, and with identity.mode attested each lane has one of its own; drop it, or write off", "mqtt.share")
		}
		c.Lanes.Count, c.Lanes.Retiring = 0, 0
		l.prefixRule()
		l.leaseRules()
		return
	}
	if c.MQTT.Share == ShareOff {
		c.MQTT.Share = "" // plain topics have no group unless one is named
	}
	if l.Given("lanes.partitions") {
		l.Conflict("contradicts identity.mode off: plain topics have no partitions; write lanes.count, and mqtt.share where that is more than 1", "lanes.partitions")
	}
	c.Lanes.Partitions = Partitions{}
	l.leaseRules()
	if l.Valid("lanes.retiring", "mqtt.share") && c.Lanes.Retiring > 0 && c.MQTT.Share == "" {
		l.Conflict("is given without mqtt.share; a lane retires from a share group, so name the one that it is in", "lanes.retiring")
	}
	if l.Valid("lanes.count", "lanes.retiring") && c.Lanes.Count+c.Lanes.Retiring == 0 {
		l.Conflict("is 0 and no lane is retiring; write 1 or more", "lanes.count")
	}
	if l.Valid("lanes.count", "mqtt.share") && c.Lanes.Count > 1 && c.MQTT.Share == "" {
		l.Conflict("is "+strconv.Itoa(c.Lanes.Count)+" without mqtt.share: each lane would get every message; write a share group, or count: 1", "lanes.count")
	}
}

// leaseRules refuse the keys of the leases where there are none.
func (l *rules) leaseRules() {
	lanes := &l.c.Lanes
	if !l.Valid("lanes.partitions") {
		return
	}
	if !lanes.Partitions.Auto {
		for _, path := range []string{"lanes.bucket", "lanes.ttl"} {
			if l.Given(path) {
				l.Conflict("applies only with lanes.partitions: auto; drop it, or write auto there", path)
			}
		}
		return
	}
	if l.Valid("nats.mode") && l.c.NATS.Mode == LeafMode {
		l.Conflict("auto contradicts nats.mode leaf: each replica would store in its own local stream, and a message that the broker sends again after a partition has moved would be in two of them; write the partitions of this bridge, like 0-f", "lanes.partitions")
	}
	l.bucketRule("lanes.bucket", lanes.Bucket)
}

func (l *rules) prefixRule() {
	p := l.c.Identity.Prefix
	if !l.Valid("identity.prefix") {
		return
	}
	for level := range strings.SplitSeq(p, "/") {
		if level == "" || strings.ContainsAny(level, "+#{}") || strings.HasPrefix(p, "$") {
			l.Conflict(schema.Quote(p)+" is not a valid prefix; write levels without + # { } or a leading $, like bridge/v1", "identity.prefix")
			return
		}
	}
}

func (l *rules) registryRules() {
	r := &l.c.Identity.Registry
	if !l.Valid("identity.registry.kind", "identity.mode") {
		return
	}
	if r.Kind != RegistryNone && l.c.Identity.Mode != Attested {
		l.Conflict("contradicts identity.mode off: plain topics name no certificate; write none", "identity.registry.kind")
	}
	const url, file = "identity.registry.database_url", "identity.registry.database_url_file"
	switch given := !r.DatabaseURL.IsZero(); {
	case !l.Valid(url, file):
	case r.Kind == RegistryPostgres && !given:
		l.Conflict("is postgres without a database; give identity.registry.database_url or identity.registry.database_url_file too", "identity.registry.kind")
	case given && strings.HasPrefix(r.DatabaseURL.Reveal(), "postgres"): // else key=value pairs
		if _, err := parseDatabaseURL(r.DatabaseURL.Reveal()); err != nil {
			l.Conflict(err.Error(), file, url)
		}
	}
	switch given := !r.DatabaseURL.IsZero(); {
	case !l.Valid(url, file):
	case r.Kind != RegistryPostgres && given:
		l.Conflict("is given, and identity.registry.kind is "+r.Kind+"; write postgres there, or drop this", file, url)
	}
	if r.Kind == RegistryKV {
		l.bucketRule("identity.registry.bucket", r.Bucket)
	}
}

// bucketRule checks the name of a KV bucket (ADR-8).
func (l *rules) bucketRule(path, name string) {
	if l.Valid(path) && !validName(name) {
		l.Conflict(schema.Quote(name)+" is not a valid bucket name; write 1 to 100 letters, digits, - or _", path)
	}
}

func (l *rules) limitRules() {
	c := l.c
	if c.Limits.Bucket != "" {
		l.bucketRule("limits.bucket", c.Limits.Bucket)
	}
	if l.Valid("limits.payload", "mqtt.max_packet") && c.Limits.Payload > c.MQTT.MaxPacket {
		payload, packet := c.Limits.Payload, c.MQTT.MaxPacket
		if l.Given("limits.payload") {
			l.Conflict(fmt.Sprintf("%s is over mqtt.max_packet (%s), and no such payload could come in; lower it or raise the packet", payload, packet), "limits.payload")
		} else {
			l.Conflict(fmt.Sprintf("%s is below limits.payload (%s), and no such payload could come in; raise it or lower the payload", packet, payload), "mqtt.max_packet")
		}
	}
	for _, limit := range []struct {
		path string
		RateLimit
	}{{"limits.device", c.Limits.Device}, {"limits.tenant", c.Limits.Tenant}, {"quarantine.per_device", c.Quarantine.PerDevice}} {
		rate, burst := limit.path+".rate", limit.path+".burst"
		if !l.Valid(rate, burst, "limits.idle") {
			continue
		}
		// A device forgotten sooner would come back with a full bucket.
		if refill := limit.refill().Round(time.Second); refill > c.Limits.Idle {
			l.Conflict(fmt.Sprintf("takes %s to refill, longer than limits.idle (%s) remembers; lower the burst or raise limits.idle", schema.FormatDuration(refill), schema.FormatDuration(c.Limits.Idle)), burst, rate)
		}
	}
}

func (l *rules) streamRules() {
	names := map[string]string{}
	for _, s := range []struct {
		path string
		Stream
	}{{"streams.telemetry", l.c.Streams.Telemetry}, {"streams.shadow", l.c.Streams.Shadow}, {"streams.commands", l.c.Streams.Commands}, {"streams.quarantine", l.c.Streams.Quarantine}} {
		name, age := s.path+".name", s.path+".max_age"
		switch other, twice := names[s.Name]; {
		case !l.Valid(name):
		case s.Name == "" || len(s.Name) > 255 || strings.ContainsAny(s.Name, ". \t*>/\\"): // ADR-6
			l.Conflict(schema.Quote(s.Name)+` is not a valid stream name; write one without . * > / \ or spaces`, name)
		case twice:
			l.Conflict(schema.Quote(s.Name)+" is the name of "+other+" too; give each its own", name, other+".name")
		default:
			names[s.Name] = s.path
		}
		// nats-server refuses such a stream. No default is one, so the age
		// was given.
		window := l.c.Streams.DuplicateWindow
		if l.Valid(age, "streams.duplicate_window") && s.MaxAge > 0 && s.MaxAge < window {
			l.Conflict(fmt.Sprintf("%s is below streams.duplicate_window (%s); raise it or lower the window", schema.FormatDuration(s.MaxAge), schema.FormatDuration(window)), age)
		}
	}
}

// topicRules looks at shape alone; whether a pattern means something is for
// [Sources].Check.
func (l *rules) topicRules() {
	seen := map[string]int{}
	for i, t := range l.c.Topics {
		path := fmt.Sprintf("topics[%d].topic", i)
		if !l.Valid("topics", path, strings.TrimSuffix(path, ".topic")) {
			continue
		}
		if first, twice := seen[t.Topic]; twice {
			l.ErrorAt(path, path, fmt.Sprintf("%s is topics[%d] again; keep one", schema.Quote(t.Topic), first))
			continue
		}
		seen[t.Topic] = i
		switch {
		case t.Topic == "":
			l.ErrorAt(path, path, "is empty; write a pattern like tenant/{tenant}/device/{device}/{type}")
		case strings.ContainsAny(t.Topic, "+#"):
			l.ErrorAt(path, path, schema.Quote(t.Topic)+" contains an MQTT wildcard; write {name} for a level to capture")
		case strings.HasPrefix(t.Topic, "$"):
			l.ErrorAt(path, path, schema.Quote(t.Topic)+" is the broker's own; a pattern must not begin with $")
		}
	}
}

func (l *rules) adminRules(listen, example string) {
	if listen == "" || !l.Valid("admin.listen") {
		return
	}
	_, port, err := net.SplitHostPort(listen)
	_, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || strings.Contains(listen, " ") {
		l.Conflict(schema.Quote(listen)+" is not an address to listen on; write host:port like "+example+", or "+example[strings.LastIndexByte(example, ':'):]+" for all interfaces", "admin.listen")
	}
}

// stateRules check state_dir. The directory itself may still be missing, the journal creates it.
func (l *rules) stateRules() {
	dir := l.c.StateDir
	if dir == "" || !l.Valid("state_dir") {
		return
	}
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		l.Conflict(schema.Quote(dir)+" is not a directory; name one, it is created if missing", "state_dir")
	}
}
