package broker

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// maxRuleTopic is the rule's strlen(topic) < 1024, in bytes: a longer
	// device topic could make the attested one longer than MQTT allows.
	maxRuleTopic = 1023
	// maxTopic is MQTT's limit for any topic, in bytes [MQTT-1.5.3].
	maxTopic = 65535
	// undefined is how EMQX renders a field that the client does not have.
	undefined = "undefined"
)

// Attestation is what the rule puts in front of a device's topic, as text, the
// way it is rendered.
type Attestation struct {
	Prefix    string // bridge/v1
	Partition string // first hex digit of md5(CN), lower case
	ID        string // 128 bit, upper-case hex
	Millis    string // when the broker took the publish in, ms since the Unix epoch
	CN        string // the common name's bytes in upper-case hex
	Topic     string // the device's own
}

// Render returns the attested topic.
func (a *Attestation) Render() string {
	return strings.Join([]string{a.Prefix, a.Partition, a.ID, a.Millis, a.CN, a.Topic}, "/")
}

// Attest returns the attestation of one publish. username is the certificate's
// common name, or "undefined".
func Attest(prefix, id string, at time.Time, username, topic string) Attestation {
	return Attestation{
		Prefix:    prefix,
		Partition: Partition(username),
		ID:        id,
		Millis:    fmt.Sprint(at.UnixMilli()),
		CN:        fmt.Sprintf("%X", username),
		Topic:     topic,
	}
}

// Partition is the rule's substr(md5(username), 0, 1): the same for all messages
// of one device. md5 because the rule language has it; nothing rests on its
// strength.
func Partition(username string) string {
	sum := md5.Sum([]byte(username))
	return hex.EncodeToString(sum[:1])[:1]
}

// identity is who a client is, in the eyes of listener and rule.
type identity struct {
	device   bool
	username string // the CN where the certificate has one, else as in CONNECT
	// cn is what the rule's client_attrs are cut from: only ever the
	// certificate's, never the CONNECT packet's user name.
	cn string
	// connectUsername is the CONNECT packet's user name.
	connectUsername string
}

// attributed is the WHERE clause's half about client_attrs: the CN is exactly
// tenant/device, both of them non-empty and free of '/', '+' and '#'.
func (i *identity) attributed() bool {
	tenant, device, ok := strings.Cut(i.cn, "/")
	return ok && tenant != "" && device != "" && !strings.Contains(device, "/") && !strings.ContainsAny(i.cn, "+#")
}

// ruleMatches is the rule's FROM "tenant/+/device/+/#"; '#' also matches its
// parent level (MQTT 3.1.1 §4.7.1.2).
func ruleMatches(topic string) bool {
	levels := strings.SplitN(topic, "/", 5)
	return len(levels) >= 4 && levels[0] == "tenant" && levels[2] == "device"
}

// attest republishes one message of a device under its attested topic, where the
// rule applies to it.
func (b *Broker) attest(who *identity, m message, now time.Time) {
	if !b.options.Attest || !who.device || !ruleMatches(m.topic) {
		return
	}
	if !b.loaded(Rule) || !b.options.AnyCN && (!who.attributed() || len(m.topic) > maxRuleTopic) {
		b.withheld.Add(1)
		return
	}
	username := who.username
	if username == "" {
		username = undefined
	}
	a := Attest(b.options.Prefix, b.ids.next(b.options.Now()), now, username, m.topic)
	if b.options.Tamper != nil {
		b.options.Tamper(&a)
	}
	attested := a.Render()
	if len(attested) > maxTopic || strings.ContainsAny(attested, "+#") {
		b.failed.Add(1)
		return
	}
	// direct_dispatch = false, retain = false, qos = "${qos}".
	m.topic, m.retain, m.from = attested, false, ruleID
	b.dispatch(m)
	b.attested.Add(1)
}

// mint generates message ids: the microsecond, stepped so that it never repeats,
// and a number drawn once for each broker. Unique and increasing as text.
type mint struct {
	mu   sync.Mutex
	last int64
	node [8]byte
}

func newMint() *mint {
	m := new(mint)
	_, _ = rand.Read(m.node[:]) // never fails since Go 1.24
	return m
}

func (m *mint) next(now time.Time) string {
	m.mu.Lock()
	m.last = max(m.last+1, now.UnixMicro())
	us := m.last
	m.mu.Unlock()
	return fmt.Sprintf("%016X%X", us, m.node)
}
