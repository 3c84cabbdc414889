// Package config is the bridge's configuration: one YAML file, the environment
// and the command line become one checked [Config], or one list of everything
// that is wrong with them ([Errors]).
//
// The struct tags of this file are the single source for keys, defaults, bounds, environment
// variables, the reference in docs/configuration.md and the JSON Schema; package schema says
// what each means. [Ingest] is the configuration of the second program, read by the same rules.
package config

import (
	"time"

	"mqtt-nats-bridge/internal/schema"
)

// Config is the whole configuration. Load returns it complete: defaults filled
// in, secrets read from their files, contradictions ruled out.
type Config struct {
	MQTT        MQTT          `yaml:"mqtt" doc:"The MQTT broker and the session on it."`
	Lanes       Lanes         `yaml:"lanes" doc:"How many MQTT sessions share the work."`
	Lane        Lane          `yaml:"lane" doc:"What each lane does with its deliveries."`
	Topics      []Topic       `yaml:"topics" default:"tenant/{tenant}/device/{device}/{type},tenant/{tenant}/device/{device}/shadow/reported,tenant/{tenant}/device/{device}/commands/ack" example:"tenant/{tenant}/device/{device}/{type}" doc:"What is bridged: a list of topic patterns, or of the keys below. In the environment separated by commas, or a YAML list in brackets."`
	Identity    Identity      `yaml:"identity" doc:"How the bridge knows who published."`
	Limits      Limits        `yaml:"limits" doc:"What a device or a tenant may send."`
	Retained    Retained      `yaml:"retained" default:"skip" enum:"skip|forward" doc:"What becomes of retained copies sent on subscribe: they are stale, so they are skipped and counted, or forwarded with the header Mqtt-Retained."`
	NATS        NATS          `yaml:"nats" doc:"The NATS servers and the account used there. At most one of creds, user, token, nkey, context or credentials in the URL."`
	Streams     Streams       `yaml:"streams" doc:"The JetStream streams the bridge writes to."`
	Quarantine  Quarantine    `yaml:"quarantine" doc:"Where refused messages go."`
	StateDir    string        `yaml:"state_dir" doc:"Directory of the journals of the latest deliveries. Only plain topics need it; empty: in memory, and a crash of the bridge may duplicate what was in flight."`
	StopTimeout time.Duration `yaml:"stop_timeout" default:"10s" min:"100ms" max:"10m" doc:"On SIGTERM, how long to wait for messages in flight to be stored. What is left stays with the broker."`
	Admin       Admin         `yaml:"admin" doc:"The HTTP endpoint for operators."`
	Log         Log           `yaml:"log" doc:"What is logged, and how."`

	schema.Provenance `yaml:"-" json:"-"`
}

// MQTT is the broker's side.
type MQTT struct {
	URL          Brokers       `yaml:"url" default:"mqtt://127.0.0.1:1883" doc:"The broker's listeners, separated by commas or as a list: mqtt:// or tcp:// (port 1883), mqtts://, ssl:// or tls:// for TLS (port 8883), ws:// (port 80) or wss:// (port 443) for WebSocket with the listener's path, like ws://emqx:8083/mqtt. They are tried in turn; the one that works is tried first the next time. All must be of one broker or cluster, which has the sessions; another broker has sessions of its own. MQTT_URL sets it too."`
	ClientID     string        `yaml:"client_id" default:"bridge" doc:"Stem of the client ids: 1 to 128 letters, digits or - _ . : @ = ~ %, the first a letter or digit. Lanes connect as bridge-p0 … bridge-pf, plain ones as bridge-0 …; the broker keeps their sessions under these names."`
	ExactID      bool          `yaml:"exact_client_id" default:"false" doc:"The bridge's only lane connects as client_id itself, for brokers that allow that id alone. Changed, the lane has another session at the broker: run sessions clear for the old id."`
	Username     string        `yaml:"username" doc:"The user name at the broker; empty: none."`
	Password     Secret        `yaml:"password" doc:"The password at the broker."`
	PasswordFile string        `yaml:"password_file" file:"read" doc:"A file that holds the password, read again at each connect; a trailing newline is dropped."`
	Headers      Secret        `yaml:"headers" doc:"HTTP headers of the WebSocket handshake, each on a line: Name: value."`
	HeadersFile  string        `yaml:"headers_file" file:"read" doc:"A file that holds the headers, read again at each connect."`
	TLS          MQTTTLS       `yaml:"tls" doc:"Certificates for mqtts:// and wss://, read again at each connect."`
	KeepAlive    time.Duration `yaml:"keepalive" default:"30s" min:"1s" max:"65535s" step:"1s" doc:"The MQTT keep-alive, in whole seconds (16 bits on the wire)."`
	MaxPacket    Bytes         `yaml:"max_packet" default:"1MiB" min:"80KiB" max:"256MiB" doc:"The largest packet taken from the broker whole: topic, payload and framing. A longer one goes to quarantine, cut. Not below 80KiB, so that the longest topic of MQTT (64 KiB) has room."`
	Share        string        `yaml:"share" doc:"Plain topics: the $share group, needed as soon as two lanes or two bridges take the same topics. Attested topics: empty, so that each lane is the only member of a share group of its own, bridge-p0 …; or off for plain subscriptions, where the broker does not support $share."`
	EMQX         EMQX          `yaml:"emqx" doc:"The HTTP API of an EMQX broker: queue lengths and drops of the lanes' sessions in /metrics and /status, warnings in /readyz. See docs/emqx.md."`
}

// EMQX is access to the HTTP API of an EMQX broker.
type EMQX struct {
	API        APIURL `yaml:"api" doc:"The base URL of EMQX's HTTP API, like http://emqx:18083; https:// for TLS. Empty: the API is not used."`
	Key        string `yaml:"key" doc:"The API key. EMQX Enterprise has the role viewer, which is enough here; the gate command needs administrator."`
	Secret     Secret `yaml:"secret" doc:"The secret of the API key."`
	SecretFile string `yaml:"secret_file" file:"read" doc:"A file that holds the secret; it is read again at every poll, and a trailing newline is dropped."`
	CA         string `yaml:"ca" file:"read" doc:"With https://, the CA certificates to trust, PEM; empty: the system's."`
}

// ShareOff is the value of mqtt.share that turns share groups off.
const ShareOff = "off"

// Lanes says how many MQTT sessions there are. Load leaves exactly one of the
// first two filled: Partitions with attested topics, Count with plain ones.
type Lanes struct {
	Partitions Partitions    `yaml:"partitions" default:"0-f" doc:"Attested topics: the partitions this bridge takes, one lane each: 0-f, 0-7, a, 0-3,8-b. auto: all replicas with this mqtt.client_id share them out by leases; see docs/replicas.md."`
	Count      int           `yaml:"count" default:"1" min:"0" max:"256" doc:"Plain topics: the number of lanes; more than one needs mqtt.share. 0 only where all are retiring."`
	Retiring   int           `yaml:"retiring" default:"0" min:"0" max:"256" doc:"Plain topics: further lanes, numbered on from count, that take no new messages from their share group and store what the broker still holds for them; see docs/replicas.md."`
	Bucket     string        `yaml:"bucket" default:"BRIDGE_LANES" doc:"With partitions auto: the NATS KV bucket of the leases. Their keys begin with mqtt.client_id, so that fleets with different ones can share a bucket."`
	TTL        time.Duration `yaml:"ttl" default:"10s" min:"2s" max:"5m" doc:"With partitions auto: how long a lease outlives its holder; what a killed replica held is with the others after that time. It is the bucket's: the bridge gives it to a bucket that it makes, and goes by that of a bucket that is there."`
}

// Lane is what holds for every lane.
type Lane struct {
	QoS0Pending int           `yaml:"qos0_pending" default:"10000" min:"0" max:"10000000" doc:"QoS 0 messages waiting to be stored, per lane; more are counted and dropped, for QoS 0 has no window to hold them back."`
	Linger      time.Duration `yaml:"linger" default:"0s" min:"0s" max:"1s" doc:"How long to wait before a read that found nothing waiting, so that low rates cost fewer wake-ups. It adds as much latency. Measured at 2,000 messages per second: 5ms took a fifth off the CPU time, 1ms nothing."`
}

// Topic is one pattern of topics and what becomes of its messages.
type Topic struct {
	Topic   string      `yaml:"topic" item:"a pattern" doc:"The pattern; {name} captures one level, {name...} at the end all that are left. {tenant} and {device} are captured or given below."`
	Tenant  string      `yaml:"tenant" doc:"The tenant of all messages, where the topic has no {tenant}."`
	Device  string      `yaml:"device" doc:"The device of all messages, where the topic has no {device}. Limits and quarantine bounds of a device then apply to each topic."`
	Subject string      `yaml:"subject" doc:"A template for the subject, such as telemetry.{tenant}.{device}; empty: the topic's levels as tokens."`
	Format  Format      `yaml:"format" default:"raw" enum:"raw|envelope" doc:"raw: the device's bytes, untouched; envelope: wrapped in JSON with topic, tenant, device and time."`
	Stream  TopicStream `yaml:"stream" enum:"telemetry|shadow|commands|none" doc:"Which of the streams below holds it; none: an externally managed stream. Left out: that of the default topic written the same, otherwise telemetry."`
}

// Format is what a stored payload looks like.
type Format string

// The formats.
const (
	Raw      Format = "raw"
	Envelope Format = "envelope"
)

// TopicStream names a section of [Streams].
type TopicStream string

// The streams a topic can go to.
const (
	Telemetry TopicStream = "telemetry"
	Shadow    TopicStream = "shadow"
	Commands  TopicStream = "commands"
	NoStream  TopicStream = "none"
)

// Identity is how the bridge knows who published.
type Identity struct {
	Mode     IdentityMode `yaml:"mode" default:"attested" enum:"attested|off" doc:"attested: the broker's rule names the certificate's CN in the topic, and the bridge compares; off: plain topics, the broker's ACL alone decides."`
	Prefix   string       `yaml:"prefix" default:"bridge/v1" doc:"What the broker's rule puts before the attested topic."`
	Registry Registry     `yaml:"registry" doc:"The registry of certificates, with attested topics."`
}

// IdentityMode is attested or off.
type IdentityMode string

// The identity modes.
const (
	Attested    IdentityMode = "attested"
	IdentityOff IdentityMode = "off"
)

// Registry is where certificates are looked up after the CN matched.
type Registry struct {
	Kind            string        `yaml:"kind" default:"none" enum:"none|kv|postgres" doc:"none: a matching CN is enough; kv: a NATS KV bucket; postgres: a table. Certificates must then be known, active and not expired. See docs/registry.md."`
	Bucket          string        `yaml:"bucket" default:"BRIDGE_CERTS" doc:"kv: the bucket."`
	DatabaseURL     Secret        `yaml:"database_url" doc:"postgres: the database, like postgres://bridge:…@host/db?sslmode=verify-full."`
	DatabaseURLFile string        `yaml:"database_url_file" file:"read" doc:"A file that holds the URL, read again at each connect; a trailing newline is dropped."`
	Refresh         time.Duration `yaml:"refresh" default:"30s" min:"1s" max:"24h" doc:"postgres: how often the table is read again. Where the database sends notifications, changes come at once."`
}

// CurrentDatabaseURL returns the database of the registry, read from its file again where
// there is one.
func (r Registry) CurrentDatabaseURL() (string, error) {
	return schema.Current("identity.registry.database_url_file", r.DatabaseURLFile, r.DatabaseURL)
}

// The kinds of registries.
const (
	RegistryNone     = "none"
	RegistryKV       = "kv"
	RegistryPostgres = "postgres"
)

// Limits is what may be sent.
type Limits struct {
	Payload    Bytes         `yaml:"payload" default:"256KiB" min:"1" max:"256MiB" doc:"The largest payload; of a larger one the first KiB goes to quarantine."`
	Device     RateLimit     `yaml:"device" defaults:"rate=100,burst=1000" doc:"The limit of each device. Not below what the broker lets pass (EMQX: messages_rate), or it rejects what the broker acknowledged; see docs/emqx.md, E4."`
	Tenant     RateLimit     `yaml:"tenant" doc:"The limit of each tenant, all its devices together, in each bridge by itself: of several that share the work each allows so much."`
	Subjects   int           `yaml:"subjects" default:"1000" min:"0" max:"1000000" doc:"The number of different subjects that a device may publish under; a message under one more is bad_topic. It bounds what one device can make nats-server remember. 0: no limit."`
	Bucket     string        `yaml:"bucket" default:"BRIDGE_LIMITS" doc:"The NATS KV bucket with limits of single tenants and devices, in force as they are written; see docs/limits.md. It need not exist. Empty: none."`
	MaxDevices int           `yaml:"max_devices" default:"2000000" min:"1" max:"100000000" doc:"Devices remembered by the rate limiter at once."`
	Idle       time.Duration `yaml:"idle" default:"24h" min:"1m" max:"365d" doc:"A device silent for so long is forgotten by the rate limiter."`
}

// RateLimit is a token bucket.
type RateLimit struct {
	Rate  Rate `yaml:"rate" default:"0" max:"1000000" doc:"Messages per second, or 30/m, 100/h; 0: no limit."`
	Burst int  `yaml:"burst" default:"0" min:"0" max:"1000000" doc:"Messages at once; 0: twice the rate, at least 1."`
}

// Retained is what becomes of retained copies.
type Retained string

// The ways with retained copies.
const (
	RetainedSkip    Retained = "skip"
	RetainedForward Retained = "forward"
)

// NATS is JetStream's side.
type NATS struct {
	Account     `yaml:",inline"`
	AckTimeout  time.Duration `yaml:"ack_timeout" default:"3s" min:"100ms" max:"1m" doc:"How long the oldest unsettled message waits for its PubAck before it is sent again. Above 3s order is at risk on replicated streams."`
	StrictOrder StrictOrder   `yaml:"strict_order" default:"auto" enum:"auto|on|off" doc:"on: a device's next message is sent only when the one before is stored. On replicated streams a leader that steps down or freezes can swallow a message while its successor stores later ones; a leaf node's full store can refuse a message and take a later one as soon as it has room. With this a device's order holds even then, at the price of one message per round trip for each device, behind which the rest of its lane waits. auto: on where streams.replicas is more than 1 and in nats.mode leaf."`
	Mode        NATSMode      `yaml:"mode" default:"client" enum:"client|leaf" doc:"client: the lanes store at the servers; leaf: in a nats-server within the bridge, from which the servers' streams source. See docs/leaf.md."`
	Leaf        Leaf          `yaml:"leaf" doc:"nats.mode leaf: the server within the bridge and its link to the hub, which takes the credentials and the certificates of nats too."`
}

// NATSMode is client or leaf.
type NATSMode string

// The modes.
const (
	ClientMode NATSMode = "client"
	LeafMode   NATSMode = "leaf"
)

// Leaf is the embedded leaf node.
type Leaf struct {
	URL          LeafServers   `yaml:"url" doc:"The hub's listeners for leaf nodes, separated by commas: nats-leaf:// (port 7422), tls:// where it must be TLS, ws:// or wss://. nats.url stays that for clients."`
	Domain       string        `yaml:"domain" doc:"The JetStream domain of this bridge, another one at each site. The hub's streams name it as their source; changed, what is stored here stays here."`
	StoreDir     string        `yaml:"store_dir" doc:"The directory of what the hub has not stored yet."`
	MaxBytes     Bytes         `yaml:"max_bytes" default:"10GiB" min:"16MiB" doc:"How much is stored here at most. Beyond it nothing is taken and nothing discarded: the broker holds what comes."`
	MaxAge       time.Duration `yaml:"max_age" default:"0s" min:"0s" doc:"How old the oldest message that waits for the hub may get. Beyond it nothing is taken and nothing discarded, as with max_bytes; 0s: any age."`
	Keep         time.Duration `yaml:"keep" default:"5m" min:"0s" max:"24h" doc:"How long what the hub has stored is kept here all the same, as far as there is room: a hub that a power cut sets back gets it again. Above the hub's sync_interval."`
	MaxPayload   Bytes         `yaml:"max_payload" default:"1MiB" min:"64KiB" max:"64MiB" doc:"The largest message with its headers; not above the hub's max_payload, for what the hub does not take would end the link again and again."`
	SyncInterval time.Duration `yaml:"sync_interval" default:"10s" min:"0s" max:"10m" doc:"When files are forced to the disk: what a power cut may cost. 0s: at each message, at a high price in throughput."`
}

// Account is the NATS servers and who connects to them.
type Account struct {
	URL          Servers `yaml:"url" default:"nats://127.0.0.1:4222" doc:"The servers, separated by commas: nats://, tls://, ws:// or wss://. NATS_URL sets it too."`
	Context      string  `yaml:"context" doc:"A context of the nats CLI to take servers and credentials from; a url given here comes first."`
	Creds        string  `yaml:"creds" file:"read" doc:"A credentials file (JWT and seed)."`
	User         string  `yaml:"user" doc:"The user name."`
	Password     Secret  `yaml:"password" doc:"The user's password."`
	PasswordFile string  `yaml:"password_file" file:"read" doc:"A file that holds the password; a trailing newline is dropped."`
	Token        Secret  `yaml:"token" doc:"An authentication token."`
	TokenFile    string  `yaml:"token_file" file:"read" doc:"A file that holds the token; a trailing newline is dropped."`
	NKey         string  `yaml:"nkey" file:"read" doc:"A file that holds the seed of an nkey."`
	InboxPrefix  string  `yaml:"inbox_prefix" doc:"Where replies come back, for accounts that may not use _INBOX; empty: the context's, otherwise _INBOX."`
	Domain       string  `yaml:"domain" doc:"The JetStream domain of the streams; empty: the context's, otherwise the server's own."`
	TLS          NATSTLS `yaml:"tls" doc:"Certificates for NATS, read again at each connect. With any of these the connection is never plain text."`
}

// StrictOrder is whether the order of each device holds under every error.
type StrictOrder string

// The ways with order.
const (
	StrictAuto StrictOrder = "auto"
	StrictOn   StrictOrder = "on"
	StrictOff  StrictOrder = "off"
)

// Strict reports whether a device's next message waits for the one before. In auto
// it does where a server may refuse some messages of a pipeline and store later ones:
// a replicated stream that changes its leader, and a leaf node's store, which is full
// and gets room again at any moment.
func (c *Config) Strict() bool {
	s := c.NATS.StrictOrder
	return s == StrictOn || s == StrictAuto && (c.Streams.Replicas > 1 || c.NATS.Mode == LeafMode)
}

// TLS is a client's certificates.
type TLS struct {
	CA         string `yaml:"ca" file:"read" doc:"The CA certificates to trust, PEM; empty: the system's."`
	Cert       string `yaml:"cert" file:"read" doc:"The client certificate, PEM."`
	Key        string `yaml:"key" file:"read" doc:"The client certificate's key, PEM."`
	Passphrase string `yaml:"passphrase_file" file:"read" doc:"A file that holds the passphrase of an encrypted key; a trailing newline is dropped."`
	ServerName string `yaml:"server_name" doc:"The name expected in the server's certificate; empty: the host of the URL."`
}

// MQTTTLS is what TLS takes for MQTT.
type MQTTTLS struct {
	TLS
	ALPN string `yaml:"alpn" doc:"The ALPN protocols to offer, separated by commas, as brokers want them that serve several protocols at one port; with mqtts:// only. Empty: none."`
}

// Given reports whether any of the block was given.
func (t MQTTTLS) Given() bool { return t != MQTTTLS{} }

// NATSTLS is what TLS takes for NATS.
type NATSTLS struct {
	TLS
	HandshakeFirst bool `yaml:"handshake_first" default:"false" doc:"Start TLS before the server's greeting; for servers with handshake_first in their tls block."`
}

// Given reports whether any of the block was given.
func (t NATSTLS) Given() bool { return t != NATSTLS{} }

// Streams is the JetStream streams.
type Streams struct {
	Manage          Manage        `yaml:"manage" default:"create" enum:"create|verify|off" refuse:"apply=is a command, not a mode: run mqtt-nats-bridge streams apply, and write create, verify or off" doc:"create: make what is missing, change nothing; verify: only check; off: the streams are externally managed, only read, and what can lose messages in them is a warning."`
	Replicas        int           `yaml:"replicas" default:"1" min:"1" max:"5" doc:"Copies of each stream; 3 in a cluster. nats.strict_order goes by it, so say it also where the streams are externally managed."`
	DuplicateWindow time.Duration `yaml:"duplicate_window" default:"2m" min:"1s" max:"24h" doc:"How long JetStream remembers message ids. What was first sent longer ago is looked up in the stream before it is sent again."`
	Telemetry       Stream        `yaml:"telemetry" defaults:"name=TELEMETRY,max_age=24h,max_bytes=10GiB" doc:"Telemetry: one type of message a subject."`
	Shadow          Stream        `yaml:"shadow" defaults:"name=SHADOW,max_age=24h,max_bytes=1GiB" doc:"Reported shadows."`
	Commands        Stream        `yaml:"commands" defaults:"name=COMMANDS,max_age=24h,max_bytes=1GiB" doc:"Acknowledged commands."`
	Quarantine      Stream        `yaml:"quarantine" defaults:"name=QUARANTINE,max_age=7d,max_bytes=1GiB,max_per_subject=1000" doc:"Refused messages, under quarantine.<reason>."`
}

// Manage is how far the bridge may go with streams at start.
type Manage string

// The ways to manage streams.
const (
	ManageCreate Manage = "create"
	ManageVerify Manage = "verify"
	ManageOff    Manage = "off"
)

// Stream is one stream's name and limits. A limit of 0 is none.
type Stream struct {
	Name          string        `yaml:"name" doc:"The stream's name."`
	MaxAge        time.Duration `yaml:"max_age" default:"0s" min:"0s" doc:"How long messages are kept; 0s: indefinitely."`
	MaxBytes      Bytes         `yaml:"max_bytes" default:"0" doc:"The size at which the oldest are discarded; 0: none."`
	MaxPerSubject int           `yaml:"max_per_subject" default:"0" min:"0" max:"1000000000" doc:"Messages kept of each subject; 0: all."`
}

// Quarantine is what becomes of refused messages.
type Quarantine struct {
	Store     bool      `yaml:"store" default:"true" doc:"Store refused messages under quarantine.>; false: count and log only."`
	PerDevice RateLimit `yaml:"per_device" defaults:"rate=1,burst=10" doc:"How many refused messages of one device are stored; the rest is counted. A message of 2 KiB or more counts as one for each KiB."`
}

// Admin is the HTTP endpoint for operators.
type Admin struct {
	Listen string `yaml:"listen" default:"127.0.0.1:9464" doc:"Address of the page at / and of /livez, /readyz, /metrics, /status and /devices; it has no authentication. Empty: none."`
}

// Log is the log's level and form.
type Log struct {
	Level  string `yaml:"level" default:"info" enum:"debug|info|warn|error" doc:"The least severe level shown."`
	Format string `yaml:"format" default:"auto" enum:"auto|console|json" doc:"auto: console on a terminal, JSON elsewhere."`
}
