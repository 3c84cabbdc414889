package bridge

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge/journal"
	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/subjects"
)

// noon is when the tests' clock starts, in ns since the epoch.
const noon = int64(1_795_435_200) * 1e9

const (
	telemetryPattern = "tenant/{tenant}/device/{device}/{type}"
	shadowPattern    = "tenant/{tenant}/device/{device}/shadow/reported"
	commandsPattern  = "tenant/{tenant}/device/{device}/commands/ack"

	telemetry        = "tenant/acme/device/dev-1/telemetry"
	telemetrySubject = "tenant.acme.device.dev-1.telemetry"
)

// brokerEnd is a connection that records the acknowledgements on it.
type brokerEnd struct {
	mu      sync.Mutex
	acks    []uint16
	flushes int
	onAck   func(packetID uint16)
}

func (c *brokerEnd) Ack(packetID uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acks = append(c.acks, packetID)
	if c.onAck != nil {
		c.onAck(packetID)
	}
}

func (c *brokerEnd) Flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flushes++
}

func (c *brokerEnd) acked() []uint16 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]uint16{}, c.acks...)
}

// published is a copy of a message that a lane published.
type published struct {
	token   uint64
	subject string
	id      string
	headers map[string]string
	payload string
	first   int64
}

// message returns the published message as a publisher returns a refused one.
func (p *published) message() *Message {
	m := &Message{Token: p.token, Subject: []byte(p.subject), ID: []byte(p.id), Payload: []byte(p.payload)}
	for name, value := range p.headers {
		m.Headers = append(m.Headers, Header{name, []byte(value)})
	}
	return m
}

// streamEnd is a publisher whose answers come from the test.
type streamEnd struct {
	lane *Lane

	mu        sync.Mutex
	messages  []*published
	onPublish func(*published)
}

func (p *streamEnd) Publish(m *Message) {
	c := &published{
		token: m.Token, subject: string(m.Subject), id: string(m.ID),
		payload: string(m.Payload), headers: map[string]string{}, first: m.FirstAttempt,
	}
	for _, h := range m.Headers {
		c.headers[h.Name] = string(h.Value)
	}
	p.mu.Lock()
	p.messages = append(p.messages, c)
	hook := p.onPublish
	p.mu.Unlock()
	if hook != nil {
		hook(c)
	}
}

func (p *streamEnd) all() []*published {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*published{}, p.messages...)
}

// store answers the i-th published message with a positive PubAck.
func (p *streamEnd) store(i int) { p.lane.Settle(&Result{Token: p.all()[i].token}) }

// refuse answers the i-th published message with a final refusal.
func (p *streamEnd) refuse(i int) {
	m := p.all()[i]
	p.lane.Settle(&Result{Token: m.token, Refused: errRefused, Message: m.message()})
}

var errRefused = errors.New("message size exceeds maximum allowed")

// script is a lane between two scripted ends.
type script struct {
	*Lane
	t      tester
	conn   *brokerEnd
	stream *streamEnd
	now    int64
}

// tester contains the methods common to *testing.T, *testing.B and *rapid.T.
type tester interface {
	require.TestingT
	Helper()
}

// play returns a connected lane on plain topics, without limits. The test can adjust the options.
func play(t tester, adjust ...func(*LaneOptions)) *script {
	t.Helper()
	s := &script{t: t, now: noon, stream: &streamEnd{}}
	o := LaneOptions{
		Name:    "lane",
		Devices: limit.NewBudgets(limit.BudgetOptions{}),
		Tenants: limit.NewBudgets(limit.BudgetOptions{}),
		Now:     func() int64 { return s.now },
		Rules: &Rules{
			Topics:     routes(t, telemetryPattern, shadowPattern, commandsPattern),
			Quarantine: true,
		},
	}
	var err error
	o.Limits, err = limit.NewLive(limit.Limits{MaxPayload: 1 << 10}, o.Now)
	require.NoError(t, err)
	for _, f := range adjust {
		f(&o)
	}
	s.Lane, err = NewLane(o)
	require.NoError(t, err)
	s.stream.lane = s.Lane
	s.Start(s.stream)
	s.connect(o.Journal != nil) // credit from a broker that kept the session
	return s
}

// openJournal opens a lane's journal, however long ago it was last written.
func openJournal(t tester, dir string) *journal.Journal {
	t.Helper()
	opened, err := journal.Open(journal.Options{
		Dir: dir, ClientID: "lane", BootID: "boot", ChangedAt: func(os.FileInfo) time.Time { return time.Time{} },
	})
	require.NoError(t, err)
	require.Empty(t, opened.MovedTo)
	require.Empty(t, opened.Stale)
	return opened.Journal
}

// edit changes the limits in force.
func edit(v *limit.Live, change func(*limit.Limits)) {
	l := v.Limits()
	change(&l)
	if err := v.Set(l); err != nil {
		panic(err)
	}
}

// noLimits has a payload limit of one byte and no other limits.
func noLimits() *limit.Live {
	v, err := limit.NewLive(limit.Limits{MaxPayload: 1}, nil)
	if err != nil {
		panic(err)
	}
	return v
}

func routes(t tester, patterns ...string) *subjects.Set {
	t.Helper()
	var r []subjects.Route
	for _, text := range patterns {
		p, err := subjects.ParsePattern(text)
		require.NoError(t, err)
		r = append(r, subjects.Route{Pattern: p})
	}
	set, err := subjects.NewSet(r)
	require.NoError(t, err)
	return set
}

// attested configures the lane for attested topics.
func attested(t tester) func(*LaneOptions) {
	t.Helper()
	prefix, err := subjects.ParsePrefix("bridge/v1")
	require.NoError(t, err)
	return func(o *LaneOptions) { o.Rules.Attested = prefix }
}

// connect replaces the connection.
func (s *script) connect(sessionPresent bool) *brokerEnd {
	if s.conn != nil {
		s.Disconnected(s.conn)
	}
	s.conn = &brokerEnd{}
	s.Connected(s.conn, sessionPresent)
	return s.conn
}

func (s *script) tick(d time.Duration) { s.now += int64(d) }

// with changes a delivery.
type with func(*Delivery)

func dup(d *Delivery)      { d.Dup = true }
func retained(d *Delivery) { d.Retain = true }
func qos0(d *Delivery)     { d.QoS, d.PacketID = 0, 0 }

// cutTo truncates a payload over the maximum packet size, as a tap does.
func cutTo(n int) with { return func(d *Delivery) { d.Payload = d.Payload[:n] } }

// deliver delivers a QoS 1 message in a buffer that is overwritten afterwards.
func (s *script) deliver(packetID uint16, topic, payload string, how ...with) {
	buf := []byte(topic + payload)
	d := Delivery{
		Topic: buf[:len(topic):len(topic)], Payload: buf[len(topic):], PayloadSize: len(payload),
		ReceivedAt: s.now, PacketID: packetID, QoS: 1,
	}
	for _, f := range how {
		f(&d)
	}
	s.Deliver(s.conn, &d)
	copy(buf, bytes.Repeat([]byte{'?'}, len(buf)))
}

// only returns the one message published so far.
func (s *script) only() *published {
	s.t.Helper()
	all := s.stream.all()
	require.Len(s.t, all, 1)
	return all[0]
}

// last returns the message published last.
func (s *script) last() *published {
	s.t.Helper()
	all := s.stream.all()
	require.NotEmpty(s.t, all)
	return all[len(all)-1]
}

// vouched returns the attested topic of a device topic.
func vouched(id string, at int64, cn, topic string) string {
	p, err := subjects.ParsePrefix("bridge/v1")
	if err != nil {
		panic(err)
	}
	a := subjects.Attestation{Partition: []byte("d"), ID: []byte(id), Millis: at / 1e6, CNHex: subjects.AppendCN(nil, []byte(cn))}
	return string(p.Append(nil, a, []byte(topic)))
}

// deviceTopic returns the telemetry topic of tenant/device.
func deviceTopic(name string) string {
	tenant, device, _ := strings.Cut(name, "/")
	return "tenant/" + tenant + "/device/" + device + "/telemetry"
}
