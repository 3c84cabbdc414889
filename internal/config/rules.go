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

// rules validates what a single value's tags cannot express: values that contradict each other, and
// texts with their own grammar.
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
	l.directory("state_dir", l.c.StateDir)
}

// syntax checks the value of a text with its own grammar. correction follows the value in the error.
func (l *rules) syntax(path, value string, valid bool, correction string) {
	if l.Valid(path) && !valid {
		l.Conflict(schema.Quote(value)+" "+correction, path)
	}
}

// directory checks the name of a directory, which may be missing.
func (l *rules) directory(path, name string) {
	info, err := os.Stat(name)
	l.syntax(path, name, err != nil || info.IsDir(), "is not a directory; name a directory, which is created if missing")
}

// refuse reports an error of each of the paths that was given.
func (l *rules) refuse(message string, paths ...string) {
	for _, p := range paths {
		if l.Given(p) {
			l.ErrorAt(p, p, message)
		}
	}
}

func (l *rules) brokerRules() {
	m := &l.c.MQTT
	l.brokerCredentials()
	if l.Valid("mqtt.url") && !m.URL.Secure() && m.TLS.Given() {
		// A configured CA implies TLS: the connection must not be plain text by accident.
		l.Conflict("contradicts mqtt.url, which is plain text; write mqtts:// there, or remove this key", "mqtt.tls.ca", "mqtt.tls.cert", "mqtt.tls.key", "mqtt.tls.passphrase_file", "mqtt.tls.server_name", "mqtt.tls.alpn")
	}
	l.webSocketRules()
	l.syntax("mqtt.client_id", m.ClientID, validClientID(m.ClientID), "is not a valid client id; write 1 to 128 letters, digits or - _ . : @ = ~ %, the first a letter or digit")
	// MQTT 5 §4.8.2; 3.1.1 does not define shared subscriptions.
	l.syntax("mqtt.share", m.Share, !strings.ContainsAny(m.Share, "/+#"), "is not a valid share group; write one without / + #")
}

func (l *rules) webSocketRules() {
	m := &l.c.MQTT
	if !l.Valid("mqtt.url", "mqtt.headers", "mqtt.headers_file") {
		return
	}
	web := slices.ContainsFunc(m.URL.urls, webSocket)
	if m.TLS.ALPN != "" && web {
		l.Conflict("contradicts mqtt.url, where wss:// has its own ALPN protocol; remove this key, or write mqtts:// there", "mqtt.tls.alpn")
	}
	if m.Headers.IsZero() {
		return
	}
	if !web {
		l.Conflict("applies to the WebSocket handshake, and mqtt.url has no ws:// or wss://; remove this key", "mqtt.headers_file", "mqtt.headers")
	} else if _, err := parseHeaders(m.Headers.Reveal()); err != nil {
		l.Conflict(err.Error(), "mqtt.headers_file", "mqtt.headers")
	}
}

// brokerCredentials moves the user name and the password from the URL to their fields.
func (l *rules) brokerCredentials() {
	m := &l.c.MQTT
	if user := m.URL.takeUser(); user != nil && l.Valid("mqtt.url") {
		if m.Username != "" || !m.Password.IsZero() || !l.Valid("mqtt.password_file") {
			l.ErrorAt("mqtt.url", "mqtt.url", "contains credentials, and mqtt.username or mqtt.password is also given; keep one of the two")
		}
		password, _ := user.Password()
		m.Username, m.Password = user.Username(), schema.NewSecret(password)
		l.Derive("mqtt.url", "mqtt.username", "mqtt.password")
	}
	// MQTT 3.1.1 allows no password without a user name [MQTT-3.1.2-22].
	if l.Valid("mqtt.username", "mqtt.url") && m.Username == "" && !m.Password.IsZero() {
		l.Conflict("is given without mqtt.username; MQTT 3.1.1 has no password without a user name", "mqtt.password_file", "mqtt.password")
	}
}

// validClientID reports whether id is a valid client id. A client id names a file and a $share group
// and is part of message ids, which are NATS headers. It may therefore contain only characters that
// are safe in all three. MQTT 3.1.1 requires brokers to accept only 1 to 23 letters and digits
// [MQTT-3.1.3-5].
func validClientID(id string) bool {
	return len(id) <= 128 && validName(id[:min(len(id), 1)]) && !strings.ContainsFunc(id, func(r rune) bool {
		return !isAlphanumeric(r) && !strings.ContainsRune("-_.:@=~%", r)
	})
}

// validName reports whether name is a valid name of a bucket or a domain.
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
		n.URL = Servers{} // the context names the servers
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
	l.syntax("nats.domain", n.Domain, n.Domain == "" || validDomain(n.Domain), "is not a valid JetStream domain; write 1 to 64 letters, digits, - or _, like hub")
	l.syntax("nats.inbox_prefix", n.InboxPrefix, n.InboxPrefix == "" || validLevels(n.InboxPrefix, ".", "*> \t"), "is not a valid inbox prefix; write tokens separated by dots, without * > or spaces, like _INBOX_bridge")
}

// validLevels reports whether s has levels between separators, none of them empty or with a forbidden
// character.
func validLevels(s, separator, forbidden string) bool {
	return !strings.ContainsAny(s, forbidden) && !slices.Contains(strings.Split(s, separator), "")
}

// clientIDRules must run after laneRules, which determine the number of lanes.
func (l *rules) clientIDRules() {
	c := l.c
	if !l.Valid("mqtt.client_id", "mqtt.exact_client_id", "lanes.partitions", "lanes.count", "lanes.retiring") {
		return
	}
	if lanes := len(c.Lanes.Partitions.List) + c.Lanes.Count + c.Lanes.Retiring; c.MQTT.ExactID && lanes != 1 {
		l.Conflict("requires a single lane, and "+strconv.Itoa(lanes)+" are configured; remove this key, or write lanes.count: 1 or a single partition in lanes.partitions", "mqtt.exact_client_id")
	}
	leasable := !c.Lanes.Partitions.Auto || !strings.ContainsAny(c.MQTT.ClientID, ":@~%")
	l.syntax("mqtt.client_id", c.MQTT.ClientID, leasable, "is the prefix of the lease keys, which cannot contain : @ ~ or %; write one without them")
}

func (l *rules) laneRules() {
	c := l.c
	if !l.Valid("identity.mode") {
		return
	}
	if c.Identity.Mode == Attested {
		l.refuse("contradicts identity.mode attested, where each partition has one lane; remove this key, or write lanes.partitions", "lanes.count")
		l.refuse("contradicts identity.mode attested, where lanes are not retired; remove this key", "lanes.retiring")
		if c.MQTT.Share != "" && c.MQTT.Share != ShareOff {
			l.Conflict("names a share group, and with identity.mode attested each lane has its own; remove this key, or write off", "mqtt.share")
		}
		c.Lanes.Count, c.Lanes.Retiring = 0, 0
		p := c.Identity.Prefix
		l.syntax("identity.prefix", p, !strings.HasPrefix(p, "$") && validLevels(p, "/", "+#{}"), "is not a valid prefix; write levels without + # { } or a leading $, like bridge/v1")
		l.leaseRules()
		return
	}
	if c.MQTT.Share == ShareOff {
		c.MQTT.Share = "" // plain topics have no group by default
	}
	l.refuse("contradicts identity.mode off, where topics have no partitions; write lanes.count, and mqtt.share if that is more than 1", "lanes.partitions")
	c.Lanes.Partitions = Partitions{}
	l.leaseRules()
	if l.Valid("lanes.retiring", "mqtt.share") && c.Lanes.Retiring > 0 && c.MQTT.Share == "" {
		l.Conflict("is given without mqtt.share; name the share group that the lanes leave", "lanes.retiring")
	}
	if l.Valid("lanes.count", "lanes.retiring") && c.Lanes.Count+c.Lanes.Retiring == 0 {
		l.Conflict("is 0 and no lane is retiring; write 1 or more", "lanes.count")
	}
	if l.Valid("lanes.count", "mqtt.share") && c.Lanes.Count > 1 && c.MQTT.Share == "" {
		l.Conflict("is "+strconv.Itoa(c.Lanes.Count)+" without mqtt.share, so each lane would get every message; write a share group, or count: 1", "lanes.count")
	}
}

// leaseRules validate the lease keys, and refuse them if no leases are used.
func (l *rules) leaseRules() {
	lanes := &l.c.Lanes
	if !l.Valid("lanes.partitions") {
		return
	}
	if !lanes.Partitions.Auto {
		l.refuse("applies only with lanes.partitions: auto; remove this key, or write auto there", "lanes.bucket", "lanes.ttl")
		return
	}
	if l.Valid("nats.mode") && l.c.NATS.Mode == LeafMode {
		l.Conflict("auto contradicts nats.mode leaf: each replica has its own local stream, so a message redelivered after a partition has moved would be stored in two of them; write the partitions of this bridge, like 0-f", "lanes.partitions")
	}
	l.bucketRule("lanes.bucket", lanes.Bucket)
}

func (l *rules) registryRules() {
	r := &l.c.Identity.Registry
	if !l.Valid("identity.registry.kind", "identity.mode") {
		return
	}
	if r.Kind != RegistryNone && l.c.Identity.Mode != Attested {
		l.Conflict("contradicts identity.mode off, where topics contain no certificate; write none", "identity.registry.kind")
	}
	const url, file = "identity.registry.database_url", "identity.registry.database_url_file"
	given := !r.DatabaseURL.IsZero()
	if strings.HasPrefix(r.DatabaseURL.Reveal(), "postgres") && l.Valid(url, file) { // otherwise key=value pairs
		if _, err := parseDatabaseURL(r.DatabaseURL.Reveal()); err != nil {
			l.Conflict(err.Error(), file, url)
		}
	}
	switch {
	case !l.Valid(url, file):
	case r.Kind == RegistryPostgres && !given:
		l.Conflict("is postgres without a database; give identity.registry.database_url or identity.registry.database_url_file too", "identity.registry.kind")
	case r.Kind != RegistryPostgres && given:
		l.Conflict("is given, and identity.registry.kind is "+r.Kind+"; write postgres there, or remove this key", file, url)
	}
	if r.Kind == RegistryKV {
		l.bucketRule("identity.registry.bucket", r.Bucket)
	}
}

// bucketRule checks the name of a KV bucket (ADR-8).
func (l *rules) bucketRule(path, name string) {
	l.syntax(path, name, validName(name), "is not a valid bucket name; write 1 to 100 letters, digits, - or _")
}

func (l *rules) limitRules() {
	c := l.c
	if c.Limits.Bucket != "" {
		l.bucketRule("limits.bucket", c.Limits.Bucket)
	}
	if l.Valid("limits.payload", "mqtt.max_packet") && c.Limits.Payload > c.MQTT.MaxPacket {
		payload, packet := c.Limits.Payload, c.MQTT.MaxPacket
		if l.Given("limits.payload") {
			l.Conflict(fmt.Sprintf("%s exceeds mqtt.max_packet (%s), so no payload of this size can be received; lower it or raise mqtt.max_packet", payload, packet), "limits.payload")
		} else {
			l.Conflict(fmt.Sprintf("%s is below limits.payload (%s), so no payload of that size can be received; raise it or lower limits.payload", packet, payload), "mqtt.max_packet")
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
		// A device that is forgotten earlier would return with a full bucket.
		if refill := limit.refill().Round(time.Second); refill > c.Limits.Idle {
			l.Conflict(fmt.Sprintf("takes %s to refill, longer than limits.idle (%s); lower the burst or raise limits.idle", schema.FormatDuration(refill), schema.FormatDuration(c.Limits.Idle)), burst, rate)
		}
	}
}

// validStream reports whether name is a valid name of a stream or a consumer (ADR-6).
func validStream(name string) bool {
	return name != "" && len(name) <= 255 && !strings.ContainsAny(name, ". \t*>/\\")
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
		case !validStream(s.Name):
			l.Conflict(schema.Quote(s.Name)+` is not a valid stream name; write one without . * > / \ or spaces`, name)
		case twice:
			l.Conflict(schema.Quote(s.Name)+" is also the name of "+other+"; give each its own", name, other+".name")
		default:
			names[s.Name] = s.path
		}
		// nats-server refuses such a stream. The defaults are valid, so the age was given.
		window := l.c.Streams.DuplicateWindow
		if l.Valid(age, "streams.duplicate_window") && s.MaxAge > 0 && s.MaxAge < window {
			l.Conflict(fmt.Sprintf("%s is below streams.duplicate_window (%s); raise it or lower the window", schema.FormatDuration(s.MaxAge), schema.FormatDuration(window)), age)
		}
	}
}

// topicRules checks only the syntax. The checks given to [Load] validate the meaning of a pattern.
func (l *rules) topicRules() {
	seen := map[string]int{}
	for i, t := range l.c.Topics {
		path := fmt.Sprintf("topics[%d].topic", i)
		if !l.Valid("topics", path, strings.TrimSuffix(path, ".topic")) {
			continue
		}
		if first, twice := seen[t.Topic]; twice {
			l.ErrorAt(path, path, fmt.Sprintf("%s is a duplicate of topics[%d]; keep one", schema.Quote(t.Topic), first))
			continue
		}
		seen[t.Topic] = i
		switch {
		case t.Topic == "":
			l.ErrorAt(path, path, "is empty; write a pattern like tenant/{tenant}/device/{device}/{type}")
		case strings.ContainsAny(t.Topic, "+#"):
			l.ErrorAt(path, path, schema.Quote(t.Topic)+" contains an MQTT wildcard; write {name} for a level to capture")
		case strings.HasPrefix(t.Topic, "$"):
			l.ErrorAt(path, path, schema.Quote(t.Topic)+" begins with $, which is reserved for the broker; write a pattern without it")
		}
	}
}

func (l *rules) adminRules(listen, example string) {
	_, port, err := net.SplitHostPort(listen)
	_, portErr := strconv.ParseUint(port, 10, 16)
	valid := listen == "" || err == nil && portErr == nil && !strings.Contains(listen, " ")
	l.syntax("admin.listen", listen, valid, "is not an address to listen on; write host:port like "+example+", or "+example[strings.LastIndexByte(example, ':'):]+" for all interfaces")
}
