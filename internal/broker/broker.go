package broker

import (
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
)

// Broker is a running MQTT broker. Its methods are safe for concurrent use.
type Broker struct {
	options    Options
	server     *mochi.Server
	plain      *listener
	secure     *listener // nil without TLS
	ids        *idGenerator
	unloaded   atomic.Uint32 // a Part
	gateOpen   atomic.Bool
	sessions   sessions
	roundRobin roundRobin
	closing    sync.Once

	attested, withheld, denied, failed atomic.Int64
	noSubscribers, overflowed          atomic.Int64
}

// Open opens the listeners and starts to serve.
func Open(o Options) (*Broker, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	b := &Broker{options: o, server: newServer(&o), ids: newIDGenerator()}
	b.sessions.byID = make(map[string]*session)
	b.roundRobin.byGroup = make(map[string]uint32)
	b.unloaded.Store(uint32(o.Unloaded))
	b.gateOpen.Store(!o.Gate)
	if err := b.open(); err != nil {
		b.server.Listeners.CloseAll(nil) // the server has not started
		return nil, err
	}
	return b, nil
}

func (b *Broker) open() (err error) {
	if err = b.server.AddHook(&hook{b: b}, nil); err != nil {
		return err
	}
	if b.plain, err = listen("plain", b.options.Listen, nil, b); err != nil {
		return err
	}
	if b.options.TLS != nil {
		if b.secure, err = listen("device", b.options.ListenTLS, b.options.TLS, b); err != nil {
			return err
		}
	}
	return b.server.Serve()
}

func newServer(o *Options) *mochi.Server {
	limits := mochi.NewDefaultServerCapabilities()
	limits.MaximumPacketSize = max(o.Services.MaxPacket, o.Devices.MaxPacket)
	limits.MaximumInflight = math.MaxUint16
	limits.ReceiveMaximum = math.MaxUint16
	limits.MaximumClientWritesPending = 1   // deliveries bypass mochi's queue
	limits.MaximumMessageExpiryInterval = 0 // retained messages have no timestamp here
	return mochi.New(&mochi.Options{
		Capabilities:            limits,
		ClientNetReadBufferSize: chunkBytes,
		// mochi publishes $SYS topics without using the sessions. The long interval leaves a
		// single publish, before the first client connects.
		SysTopicResendInterval: int64((10 * 365 * 24 * time.Hour).Seconds()),
		// mochi logs whole packets, including payloads.
		Logger: slog.New(slog.DiscardHandler),
	})
}

// URL returns the plain listener's URL, tcp://host:port.
func (b *Broker) URL() string { return "tcp://" + b.plain.Address() }

// TLSURL returns the devices' listener's URL, ssl://host:port, or empty text without such a listener.
func (b *Broker) TLSURL() string {
	if b.secure == nil {
		return ""
	}
	return "ssl://" + b.secure.Address()
}

// Load marks parts of the configuration as loaded; see [Options.Unloaded].
func (b *Broker) Load(parts Part) { b.unloaded.And(^uint32(parts)) }

func (b *Broker) loaded(part Part) bool { return Part(b.unloaded.Load())&part == 0 }

// OpenGate allows devices to connect; see [Options.Gate].
func (b *Broker) OpenGate() { b.gateOpen.Store(true) }

// Client describes one session, connected or not.
type Client struct {
	ID        string
	Username  string // for a device, its CN
	Device    bool
	Connected bool
	Pending   int   // messages above QoS 0 that are queued, or sent and not acknowledged
	InFlight  int   // messages sent and not acknowledged
	Queued    int   // messages in the queue, including QoS 0
	Dropped   int64 // messages dropped because the queue was full
	Limits    Zone  // MaxQueue is that of the zone where the session was created
}

// Clients returns the sessions, sorted by client id. A client is connected once it has received its
// CONNACK.
func (b *Broker) Clients() []Client {
	b.sessions.establishing.Lock()
	defer b.sessions.establishing.Unlock()
	var list []Client
	for _, s := range b.sessions.all() {
		list = append(list, s.client())
	}
	slices.SortFunc(list, func(x, y Client) int { return strings.Compare(x.ID, y.ID) })
	return list
}

// Stats counts device messages since the start.
type Stats struct {
	Attested int64 // republished
	Withheld int64 // acknowledged, but not republished: excluded by the WHERE clause, or the rule was not loaded
	Denied   int64 // denied by the ACL, acknowledged or not
	Failed   int64 // acknowledged, but the attested topic was invalid
}

// Stats returns the counts so far.
func (b *Broker) Stats() Stats {
	return Stats{
		Attested: b.attested.Load(),
		Withheld: b.withheld.Load(),
		Denied:   b.denied.Load(),
		Failed:   b.failed.Load(),
	}
}

// Counters are the counters that EMQX has too, and one more.
type Counters struct {
	// NoSubscribers counts published messages without a subscriber. It includes device messages
	// whose original topic has no subscriber, even if their attested copy is delivered.
	NoSubscribers int64
	// QueueFull counts deliveries dropped by full queues.
	QueueFull int64
	// TakeoverLost counts messages lost by [Options.TakeoverRace]. EMQX has no such counter.
	TakeoverLost int64
}

// Counters returns the counts so far.
func (b *Broker) Counters() Counters {
	return Counters{
		NoSubscribers: b.noSubscribers.Load(),
		QueueFull:     b.sessions.queueFull.Load(),
		TakeoverLost:  b.sessions.takeoverLost.Load(),
	}
}

// Dropped returns the number of deliveries that the broker dropped because a subscriber was too slow
// or disconnected for too long. While it is 0, every acknowledged message above QoS 0 was delivered
// or is still in a session. Messages lost by [Options.TakeoverRace] or deleted with their session are
// not counted.
func (b *Broker) Dropped() int64 { return b.sessions.queueFull.Load() + b.overflowed.Load() }

// Close closes all connections and waits for their goroutines. It deletes all sessions and queues, as
// a restart of EMQX without durable sessions does. Further calls do nothing.
func (b *Broker) Close() error {
	var err error
	b.closing.Do(func() { err = b.server.Close() })
	return err
}
