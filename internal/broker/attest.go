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
	// maxRuleTopic is the rule's strlen(topic) < 1024, in bytes. With a longer device topic, the
	// attested topic could exceed MQTT's limit.
	maxRuleTopic = 1023
	// maxTopic is MQTT's limit for any topic, in bytes [MQTT-1.5.3].
	maxTopic = 65535
	// undefined is EMQX's rendering of a field that the client does not have.
	undefined = "undefined"
)

// Attestation contains the levels of an attested topic, in the text form in which they are rendered.
type Attestation struct {
	Prefix    string // bridge/v1
	Partition string // first hex digit of md5(CN), lower case
	ID        string // 128 bits, upper-case hex
	Millis    string // when the broker received the PUBLISH, in ms since the Unix epoch
	CN        string // the common name's bytes in upper-case hex
	Topic     string // the device's topic
}

// Render returns the attested topic.
func (a *Attestation) Render() string {
	return strings.Join([]string{a.Prefix, a.Partition, a.ID, a.Millis, a.CN, a.Topic}, "/")
}

// Attest returns the attestation of one message. username is the certificate's common name, or
// "undefined".
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

// Partition returns the rule's substr(md5(username), 0, 1). It is the same for all messages of a
// device. MD5 is used because the rule language provides it; its weakness does not matter here.
func Partition(username string) string {
	sum := md5.Sum([]byte(username))
	return hex.EncodeToString(sum[:1])[:1]
}

// identity identifies a client for the listener and the rule.
type identity struct {
	device   bool
	username string // the certificate's CN, or without one the CONNECT packet's user name
	// cn is the source of the rule's client_attrs. It is always the certificate's CN, never the
	// CONNECT packet's user name.
	cn string
	// connectUsername is the CONNECT packet's user name.
	connectUsername string
}

// attributed implements the condition on client_attrs in the rule's WHERE clause: the CN is exactly
// tenant/device, and both parts are non-empty and contain no '/', '+' or '#'.
func (i *identity) attributed() bool {
	tenant, device, ok := strings.Cut(i.cn, "/")
	return ok && tenant != "" && device != "" && !strings.Contains(device, "/") && !strings.ContainsAny(i.cn, "+#")
}

// ruleMatches implements the rule's FROM "tenant/+/device/+/#". '#' also matches its parent level
// (MQTT 3.1.1 §4.7.1.2).
func ruleMatches(topic string) bool {
	levels := strings.SplitN(topic, "/", 5)
	return len(levels) >= 4 && levels[0] == "tenant" && levels[2] == "device"
}

// attest republishes one message of a device under its attested topic, if the rule applies to it.
func (b *Broker) attest(client *identity, m message, now time.Time) {
	if !b.options.Attest || !client.device || !ruleMatches(m.topic) {
		return
	}
	if !b.loaded(Rule) || !b.options.AnyCN && (!client.attributed() || len(m.topic) > maxRuleTopic) {
		b.withheld.Add(1)
		return
	}
	username := client.username
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

// idGenerator generates message ids. An id consists of the time in microseconds, incremented if it
// would repeat, and a random number per broker. Ids are unique and sort in the order of creation.
type idGenerator struct {
	mu   sync.Mutex
	last int64
	node [8]byte
}

func newIDGenerator() *idGenerator {
	g := new(idGenerator)
	_, _ = rand.Read(g.node[:]) // never fails since Go 1.24
	return g
}

func (g *idGenerator) next(now time.Time) string {
	g.mu.Lock()
	g.last = max(g.last+1, now.UnixMicro())
	us := g.last
	g.mu.Unlock()
	return fmt.Sprintf("%016X%X", us, g.node)
}
