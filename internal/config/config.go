// Package config defines the bridge's configuration. It reads one YAML file, the environment and the
// command line into a validated [Config], or reports all errors together ([Errors]).
//
// The struct tags of this file are the single source for keys, defaults, bounds, environment
// variables, the reference in docs/configuration.md and the JSON Schema. Package schema documents
// each tag. [Ingest] is the configuration of the second program and follows the same rules.
package config

import (
	"time"

	"mqtt-nats-bridge/internal/schema"
)

// Config is the whole configuration. Load returns it validated, with defaults applied and secrets
// read from their files.
type Config struct {
	MQTT        MQTT          `yaml:"mqtt" doc:"The MQTT broker and the session on it."`
	Lanes       Lanes         `yaml:"lanes" doc:"The number of MQTT sessions that share the load."`
	Lane        Lane          `yaml:"lane" doc:"Settings of each lane."`
	Topics      []Topic       `yaml:"topics" default:"tenant/{tenant}/device/{device}/{type},tenant/{tenant}/device/{device}/shadow/reported,tenant/{tenant}/device/{device}/commands/ack" example:"tenant/{tenant}/device/{device}/{type}" doc:"The topics to bridge: a list of topic patterns, or of the keys below. In the environment comma-separated, or a YAML list in brackets."`
	Identity    Identity      `yaml:"identity" doc:"How the bridge identifies the publishing device."`
	Limits      Limits        `yaml:"limits" doc:"Limits per device and per tenant."`
	Retained    Retained      `yaml:"retained" default:"skip" enum:"skip|forward" doc:"Retained messages sent on subscribe: skip and count them, or forward them with the header Mqtt-Retained."`
	NATS        NATS          `yaml:"nats" doc:"The NATS servers and the credentials: at most one of creds, user, token, nkey, context or credentials in the URL."`
	Streams     Streams       `yaml:"streams" doc:"The JetStream streams that the bridge writes to."`
	Quarantine  Quarantine    `yaml:"quarantine" doc:"The quarantine of rejected messages (dead-letter stream)."`
	StateDir    string        `yaml:"state_dir" doc:"Directory of the delivery journals, used only with plain topics. Empty: journals are kept in memory, and a crash may duplicate messages in flight."`
	StopTimeout time.Duration `yaml:"stop_timeout" default:"10s" min:"100ms" max:"10m" doc:"Timeout for storing messages in flight on SIGTERM. The broker keeps the remaining messages."`
	Admin       Admin         `yaml:"admin" doc:"The HTTP endpoint for operators."`
	Metrics     Metrics       `yaml:"metrics" doc:"Additional metrics; see docs/metrics.md."`
	Tracing     Tracing       `yaml:"tracing" doc:"Trace contexts and spans of messages; see docs/tracing.md."`
	Log         Log           `yaml:"log" doc:"Log level and format."`

	schema.Provenance `yaml:"-" json:"-"`
}

// MQTT configures the connection to the broker and the session.
type MQTT struct {
	URL          Brokers       `yaml:"url" default:"mqtt://127.0.0.1:1883" doc:"The broker's listeners, comma-separated or a list: mqtt://host:1883, mqtts://host:8883 for TLS, ws:// or wss:// with the path for WebSocket. All must belong to one broker or cluster. MQTT_URL sets it too."`
	ClientID     string        `yaml:"client_id" default:"bridge" doc:"Prefix of the client ids, 1 to 128 letters, digits or - _ . : @ = ~ %, the first a letter or digit. Lanes connect as bridge-p0 … bridge-pf, with plain topics as bridge-0 …"`
	ExactID      bool          `yaml:"exact_client_id" default:"false" doc:"Use client_id unchanged as the client id of the only lane, for brokers that allow only that id. After a change, run sessions clear for the old id."`
	Username     string        `yaml:"username" doc:"The user name for the broker; empty: none."`
	Password     Secret        `yaml:"password" doc:"The password for the broker."`
	PasswordFile string        `yaml:"password_file" file:"read" doc:"A file that contains the password, read again at each connect; a trailing newline is dropped."`
	Headers      Secret        `yaml:"headers" doc:"HTTP headers of the WebSocket handshake, one per line: Name: value."`
	HeadersFile  string        `yaml:"headers_file" file:"read" doc:"A file that contains the headers, read again at each connect."`
	TLS          MQTTTLS       `yaml:"tls" doc:"Certificates for mqtts:// and wss://, read again at each connect."`
	KeepAlive    time.Duration `yaml:"keepalive" default:"30s" min:"1s" max:"65535s" step:"1s" doc:"The MQTT keep-alive, in whole seconds (16 bits on the wire)."`
	MaxPacket    Bytes         `yaml:"max_packet" default:"1MiB" min:"80KiB" max:"256MiB" doc:"The largest packet accepted in full: topic, payload and framing. A longer one goes to quarantine, truncated."`
	Share        string        `yaml:"share" doc:"Plain topics: the $share group, required if two lanes or two bridges subscribe to the same topics. Attested topics: empty, or off if the broker does not support $share."`
	EMQX         EMQX          `yaml:"emqx" doc:"The HTTP API of an EMQX broker, for queue lengths and drops of the lanes' sessions in /metrics, /status and /readyz. See docs/emqx.md."`
}

// EMQX configures access to the HTTP API of an EMQX broker.
type EMQX struct {
	API        APIURL `yaml:"api" doc:"The base URL of EMQX's HTTP API, like http://emqx:18083; https:// for TLS. Empty: the API is not used."`
	Key        string `yaml:"key" doc:"The API key. The role viewer (EMQX Enterprise) suffices; the gate command needs administrator."`
	Secret     Secret `yaml:"secret" doc:"The secret of the API key."`
	SecretFile string `yaml:"secret_file" file:"read" doc:"A file that contains the secret, read again at each poll; a trailing newline is dropped."`
	CA         string `yaml:"ca" file:"read" doc:"The CA certificates to trust with https://, PEM; empty: the system's."`
}

// ShareOff is the value of mqtt.share that turns share groups off.
const ShareOff = "off"

// Lanes configures the number of MQTT sessions. After Load, exactly one of the first two fields is
// set: Partitions with attested topics, Count with plain topics.
type Lanes struct {
	Partitions Partitions    `yaml:"partitions" default:"0-f" doc:"Attested topics: the partitions of this bridge, one lane each: 0-f, 0-7, a, 0-3,8-b. auto: leases distribute them among all replicas with this mqtt.client_id; see docs/replicas.md."`
	Count      int           `yaml:"count" default:"1" min:"0" max:"256" doc:"Plain topics: the number of lanes; more than one needs mqtt.share. 0 is valid only if lanes.retiring is not 0."`
	Retiring   int           `yaml:"retiring" default:"0" min:"0" max:"256" doc:"Plain topics: the number of additional lanes, numbered from count, that leave their share group and drain their sessions; see docs/replicas.md."`
	Bucket     string        `yaml:"bucket" default:"BRIDGE_LANES" doc:"The NATS KV bucket of the leases, with partitions auto. Fleets with different mqtt.client_id can share it."`
	TTL        time.Duration `yaml:"ttl" default:"10s" min:"2s" max:"5m" doc:"The TTL of a lease, with partitions auto: a killed replica's lease expires after it. Applied when the bridge creates the bucket; an existing bucket's TTL takes precedence."`
}

// Lane configures each lane.
type Lane struct {
	QoS0Pending int           `yaml:"qos0_pending" default:"10000" min:"0" max:"10000000" doc:"The maximum number of QoS 0 messages per lane that wait to be stored. QoS 0 has no flow control: further messages are dropped and counted."`
	Linger      time.Duration `yaml:"linger" default:"0s" min:"0s" max:"1s" doc:"Delay before a read when no data is waiting: fewer wake-ups at low rates, at the cost of this much latency."`
}

// Topic configures one topic pattern and how its messages are stored.
type Topic struct {
	Topic   string      `yaml:"topic" item:"a pattern" doc:"The pattern; {name} captures one level, a final {name...} all remaining levels. {tenant} and {device} are captured here or set by the keys below."`
	Tenant  string      `yaml:"tenant" doc:"The tenant of all messages, if the topic has no {tenant}."`
	Device  string      `yaml:"device" doc:"The device of all messages, if the topic has no {device}. Device limits then apply per topic."`
	Subject string      `yaml:"subject" doc:"A template for the subject, such as telemetry.{tenant}.{device}; empty: the topic's levels as tokens."`
	Format  Format      `yaml:"format" default:"raw" enum:"raw|envelope" doc:"raw: the device's bytes, unchanged; envelope: JSON with topic, tenant, device, time and payload."`
	Stream  TopicStream `yaml:"stream" enum:"telemetry|shadow|commands|none" doc:"The section of streams whose stream stores the messages; none: an externally managed stream. Default: that of the default topic with the same pattern, otherwise telemetry."`
}

// Format is the format of a stored payload.
type Format string

// The formats.
const (
	Raw      Format = "raw"
	Envelope Format = "envelope"
)

// TopicStream is the name of a section of [Streams].
type TopicStream string

// The streams a topic can go to.
const (
	Telemetry TopicStream = "telemetry"
	Shadow    TopicStream = "shadow"
	Commands  TopicStream = "commands"
	NoStream  TopicStream = "none"
)

// Identity configures how the bridge identifies the publishing device.
type Identity struct {
	Mode     IdentityMode `yaml:"mode" default:"attested" enum:"attested|off" doc:"attested: a rule of the broker adds the certificate's CN to the topic, and the bridge compares it with the device; off: plain topics, only the broker's ACL applies."`
	Prefix   string       `yaml:"prefix" default:"bridge/v1" doc:"The prefix that the broker's rule adds to attested topics."`
	Registry Registry     `yaml:"registry" doc:"The registry of certificates, used with attested topics."`
}

// IdentityMode is attested or off.
type IdentityMode string

// The identity modes.
const (
	Attested    IdentityMode = "attested"
	IdentityOff IdentityMode = "off"
)

// Registry configures where a certificate is looked up after its CN has matched.
type Registry struct {
	Kind            string        `yaml:"kind" default:"none" enum:"none|kv|postgres" doc:"none: a matching CN is sufficient; kv: certificates in a NATS KV bucket; postgres: certificates in a table. A registered certificate must be active and not expired. See docs/registry.md."`
	Bucket          string        `yaml:"bucket" default:"BRIDGE_CERTS" doc:"kv: the name of the bucket."`
	DatabaseURL     Secret        `yaml:"database_url" doc:"postgres: the URL of the database, like postgres://bridge:…@host/db?sslmode=verify-full."`
	DatabaseURLFile string        `yaml:"database_url_file" file:"read" doc:"A file that contains the URL, read again at each connect; a trailing newline is dropped."`
	Refresh         time.Duration `yaml:"refresh" default:"30s" min:"1s" max:"24h" doc:"postgres: the interval between full reads of the table. If the database sends notifications, changes apply immediately."`
}

// CurrentDatabaseURL returns the database URL of the registry. A URL from a file is read again.
func (r Registry) CurrentDatabaseURL() (string, error) {
	return schema.Current("identity.registry.database_url_file", r.DatabaseURLFile, r.DatabaseURL)
}

// The kinds of registries.
const (
	RegistryNone     = "none"
	RegistryKV       = "kv"
	RegistryPostgres = "postgres"
)

// Limits configures the limits of devices and tenants.
type Limits struct {
	Payload    Bytes         `yaml:"payload" default:"256KiB" min:"1" max:"256MiB" doc:"The largest payload. A larger one goes to quarantine, truncated to 1 KiB."`
	Device     RateLimit     `yaml:"device" defaults:"rate=100,burst=1000" doc:"The limit per device. If it is below the broker's limit (EMQX: messages_rate), acknowledged messages go to quarantine; see docs/emqx.md, E4."`
	Tenant     RateLimit     `yaml:"tenant" doc:"The limit per tenant, for all its devices together. Each bridge or replica counts separately."`
	Subjects   int           `yaml:"subjects" default:"1000" min:"0" max:"1000000" doc:"The maximum number of distinct subjects per device, which bounds nats-server's memory. Messages with further subjects are rejected as bad_topic. 0: no limit."`
	Bucket     string        `yaml:"bucket" default:"BRIDGE_LIMITS" doc:"The NATS KV bucket with limits for individual tenants and devices; changes apply immediately. The bucket need not exist; see docs/limits.md. Empty: none."`
	MaxDevices int           `yaml:"max_devices" default:"2000000" min:"1" max:"100000000" doc:"The maximum number of devices that the rate limiter tracks."`
	Idle       time.Duration `yaml:"idle" default:"24h" min:"1m" max:"365d" doc:"The rate limiter forgets a device after this time without messages."`
}

// RateLimit is a token bucket.
type RateLimit struct {
	Rate  Rate `yaml:"rate" default:"0" max:"1000000" doc:"Messages per second, or 30/m, 100/h; 0: no limit."`
	Burst int  `yaml:"burst" default:"0" min:"0" max:"1000000" doc:"The size of a burst, in messages; 0: twice the rate, at least 1."`
}

// Retained selects how retained messages are handled.
type Retained string

// RetainedForward stores retained messages with a header.
const RetainedForward Retained = "forward"

// NATS configures the connection to JetStream.
type NATS struct {
	Account     `yaml:",inline"`
	AckTimeout  time.Duration `yaml:"ack_timeout" default:"3s" min:"100ms" max:"1m" doc:"Timeout for the PubAck of the oldest message in flight. After it, the message is sent again. With nats.strict_order off, above 3s the order is at risk on replicated streams."`
	StrictOrder StrictOrder   `yaml:"strict_order" default:"auto" enum:"auto|on|off" doc:"on: a device's next message is sent only after the previous one is stored, so each device gets one message per round trip. auto: on if streams.replicas is more than 1 or nats.mode is leaf."`
	Mode        NATSMode      `yaml:"mode" default:"client" enum:"client|leaf" doc:"client: store messages on the NATS servers; leaf: store them in an embedded nats-server, from which the hub's streams source. See docs/leaf.md."`
	Leaf        Leaf          `yaml:"leaf" doc:"The embedded nats-server of nats.mode leaf and its link to the hub. The link uses the credentials and certificates of nats."`
}

// NATSMode is client or leaf.
type NATSMode string

// LeafMode stores messages in an embedded nats-server.
const LeafMode NATSMode = "leaf"

// Leaf configures the embedded leaf node.
type Leaf struct {
	URL          LeafServers   `yaml:"url" doc:"The hub's listeners for leaf nodes, comma-separated: nats-leaf:// (port 7422), tls:// to require TLS, ws:// or wss://. nats.url remains the hub's listener for clients."`
	Domain       string        `yaml:"domain" doc:"The JetStream domain of this bridge, unique per site. The hub's streams source from it. After a change, messages stored under the old domain are not sourced."`
	StoreDir     string        `yaml:"store_dir" doc:"The directory of the local store, which contains the messages that the hub has not stored yet."`
	MaxBytes     Bytes         `yaml:"max_bytes" default:"10GiB" min:"16MiB" doc:"The size limit of the local store. A full store discards nothing: the bridge accepts no more messages, and the broker queues them."`
	MaxAge       time.Duration `yaml:"max_age" default:"0s" min:"0s" doc:"The age limit of the oldest message that the hub has not stored, with the same effect as max_bytes; 0s: none."`
	Keep         time.Duration `yaml:"keep" default:"5m" min:"0s" max:"24h" doc:"How long messages are kept after the hub has stored them, if the store has space. They replace what the hub loses in a power cut. Must exceed the hub's sync_interval."`
	MaxPayload   Bytes         `yaml:"max_payload" default:"1MiB" min:"64KiB" max:"64MiB" doc:"The largest message, including headers. Must not exceed the hub's max_payload: the hub closes the link each time it receives a larger message."`
	SyncInterval time.Duration `yaml:"sync_interval" default:"10s" min:"0s" max:"10m" doc:"The fsync interval. A power cut can lose the messages of one interval. 0s: fsync after each message, at a high cost in throughput."`
}

// Account configures the NATS servers and the credentials.
type Account struct {
	URL          Servers `yaml:"url" default:"nats://127.0.0.1:4222" doc:"The servers, comma-separated: nats://, tls://, ws:// or wss://. NATS_URL sets it too."`
	Context      string  `yaml:"context" doc:"The name of a context of the nats CLI, which supplies servers and credentials; nats.url takes precedence over its servers."`
	Creds        string  `yaml:"creds" file:"read" doc:"A credentials file (JWT and seed)."`
	User         string  `yaml:"user" doc:"The user name."`
	Password     Secret  `yaml:"password" doc:"The user's password."`
	PasswordFile string  `yaml:"password_file" file:"read" doc:"A file that contains the password; a trailing newline is dropped."`
	Token        Secret  `yaml:"token" doc:"An authentication token."`
	TokenFile    string  `yaml:"token_file" file:"read" doc:"A file that contains the token; a trailing newline is dropped."`
	NKey         string  `yaml:"nkey" file:"read" doc:"A file that contains the seed of an nkey."`
	InboxPrefix  string  `yaml:"inbox_prefix" doc:"The prefix of reply subjects, for users without permission for _INBOX; empty: the context's, otherwise _INBOX."`
	Domain       string  `yaml:"domain" doc:"The JetStream domain of the streams; empty: the context's, otherwise the server's."`
	TLS          NATSTLS `yaml:"tls" doc:"Certificates for NATS, read again at each connect. If any of these keys is set, TLS is required."`
}

// StrictOrder selects whether the order of each device's messages is kept under every failure.
type StrictOrder string

// The values of [StrictOrder].
const (
	StrictAuto StrictOrder = "auto"
	StrictOn   StrictOrder = "on"
)

// Strict reports whether a device's next message waits until the previous one is stored. In auto it
// does where a server can refuse some messages of a pipeline and store later ones: a replicated
// stream during a leader change, and a leaf node's store, which can be full and get space again at
// any moment.
func (c *Config) Strict() bool {
	s := c.NATS.StrictOrder
	return s == StrictOn || s == StrictAuto && (c.Streams.Replicas > 1 || c.NATS.Mode == LeafMode)
}

// TLS configures a client's certificates.
type TLS struct {
	CA         string `yaml:"ca" file:"read" doc:"The CA certificates to trust, PEM; empty: the system's."`
	Cert       string `yaml:"cert" file:"read" doc:"The client certificate, PEM."`
	Key        string `yaml:"key" file:"read" doc:"The client certificate's key, PEM."`
	Passphrase string `yaml:"passphrase_file" file:"read" doc:"A file that contains the passphrase of an encrypted key; a trailing newline is dropped."`
	ServerName string `yaml:"server_name" doc:"The name that the server's certificate must contain; empty: the host of the URL."`
}

// MQTTTLS configures TLS for MQTT.
type MQTTTLS struct {
	TLS
	ALPN string `yaml:"alpn" doc:"The ALPN protocols to offer, comma-separated, for brokers that serve several protocols on one port; only with mqtts://. Empty: none."`
}

// Given reports whether any key of the block was given.
func (t MQTTTLS) Given() bool { return t != MQTTTLS{} }

// NATSTLS configures TLS for NATS.
type NATSTLS struct {
	TLS
	HandshakeFirst bool `yaml:"handshake_first" default:"false" doc:"Start TLS before the server's INFO message, for servers with handshake_first in their tls block."`
}

// Given reports whether any key of the block was given.
func (t NATSTLS) Given() bool { return t != NATSTLS{} }

// Streams configures the JetStream streams.
type Streams struct {
	Manage          Manage        `yaml:"manage" default:"create" enum:"create|verify|off" refuse:"apply=is a command, not a mode; run mqtt-nats-bridge streams apply, and write create, verify or off" doc:"create: create missing streams and change nothing; verify: only check the streams; off: externally managed, settings that can lose messages are only warnings."`
	Replicas        int           `yaml:"replicas" default:"1" min:"1" max:"5" doc:"The replicas of each stream; 3 in a cluster. Set it for externally managed streams too, because nats.strict_order depends on it."`
	DuplicateWindow time.Duration `yaml:"duplicate_window" default:"2m" min:"1s" max:"24h" doc:"How long JetStream remembers message ids for deduplication. An older message is looked up in the stream before it is sent again."`
	Telemetry       Stream        `yaml:"telemetry" defaults:"name=TELEMETRY,max_age=24h,max_bytes=10GiB" doc:"The stream of telemetry, one message type per subject."`
	Shadow          Stream        `yaml:"shadow" defaults:"name=SHADOW,max_age=24h,max_bytes=1GiB" doc:"The stream of reported shadows."`
	Commands        Stream        `yaml:"commands" defaults:"name=COMMANDS,max_age=24h,max_bytes=1GiB" doc:"The stream of acknowledged commands."`
	Quarantine      Stream        `yaml:"quarantine" defaults:"name=QUARANTINE,max_age=7d,max_bytes=1GiB,max_per_subject=1000" doc:"The stream of rejected messages, with subjects under quarantine.<reason>."`
}

// Manage selects what the bridge may change about streams at start.
type Manage string

// The values of [Manage].
const (
	ManageCreate Manage = "create"
	ManageVerify Manage = "verify"
	ManageOff    Manage = "off"
)

// Stream configures one stream's name and limits. A limit of 0 means no limit.
type Stream struct {
	Name          string        `yaml:"name" doc:"The stream's name."`
	MaxAge        time.Duration `yaml:"max_age" default:"0s" min:"0s" doc:"How long messages are kept; 0s: indefinitely."`
	MaxBytes      Bytes         `yaml:"max_bytes" default:"0" doc:"The size at which the oldest messages are discarded; 0: no limit."`
	MaxPerSubject int           `yaml:"max_per_subject" default:"0" min:"0" max:"1000000000" doc:"The number of messages kept per subject; 0: all."`
}

// Quarantine configures how rejected messages are handled.
type Quarantine struct {
	Store     bool      `yaml:"store" default:"true" doc:"Store rejected messages under quarantine.>; false: count and log only."`
	PerDevice RateLimit `yaml:"per_device" defaults:"rate=1,burst=10" doc:"The rate limit of stored messages per device; messages above it are only counted. A message of 2 KiB or more counts once per KiB."`
}

// Admin configures the HTTP endpoint for operators.
type Admin struct {
	Listen string `yaml:"listen" default:"127.0.0.1:9464" doc:"The address to listen on for the page at / and for /livez, /readyz, /metrics, /status and /devices. The endpoint has no authentication. Empty: none."`
}

// Metrics selects additional metrics.
type Metrics struct {
	Tenants int `yaml:"tenants" default:"0" min:"0" max:"1000" doc:"The number of tenants with their own counters, mqttbridge_tenant_…: the first ones seen since the start. All others share the label other. 0: none."`
}

// Log configures the log's level and format.
type Log struct {
	Level  string `yaml:"level" default:"info" enum:"debug|info|warn|error" doc:"The minimum level logged."`
	Format string `yaml:"format" default:"auto" enum:"auto|console|json" doc:"auto: console on a terminal, JSON elsewhere."`
}
