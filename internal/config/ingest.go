package config

import (
	"fmt"
	"time"

	"mqtt-nats-bridge/internal/schema"
)

// Ingest is the configuration of ingest, the program that writes the streams to PostgreSQL. It is
// read in the same way as the bridge's.
type Ingest struct {
	Database      Database        `yaml:"database" doc:"The PostgreSQL database."`
	NATS          Account         `yaml:"nats" doc:"The NATS servers and the credentials: at most one of creds, user, token, nkey, context or credentials in the URL."`
	Consumers     ConsumerMode    `yaml:"consumers" default:"create" enum:"create|verify" doc:"create: create missing durable consumers, if permitted; verify: only wait for them. The bridge also creates them."`
	Telemetry     TelemetryIntake `yaml:"telemetry" defaults:"stream=TELEMETRY,consumer=ingest-workers,topic=tenant/{tenant}/device/{device}/{type},workers=4" doc:"The messages for the table telemetry."`
	Shadow        Intake          `yaml:"shadow" defaults:"stream=SHADOW,consumer=ingest-shadow,topic=tenant/{tenant}/device/{device}/shadow/reported,workers=1" doc:"The messages for the table device_state."`
	Commands      Intake          `yaml:"commands" defaults:"stream=COMMANDS,consumer=ingest-commands,topic=tenant/{tenant}/device/{device}/commands/ack,workers=1" doc:"The messages for the table device_commands."`
	Batch         Batch           `yaml:"batch" doc:"The messages of one transaction."`
	MaxDeliveries int             `yaml:"max_deliveries" default:"100" min:"0" max:"1000000" doc:"The number of delivery attempts before a message goes to quarantine; 0: unlimited. Only attempts that ended with the process, or with an error of this message, count."`
	StopTimeout   time.Duration   `yaml:"stop_timeout" default:"10s" min:"100ms" max:"10m" doc:"Timeout for storing batches in progress on SIGTERM. Messages that are not stored by then are redelivered."`
	Admin         IngestAdmin     `yaml:"admin" doc:"The HTTP endpoint for operators."`
	Tracing       IngestTracing   `yaml:"tracing" doc:"Spans of messages that carry a trace context; see docs/tracing.md."`
	Log           Log             `yaml:"log" doc:"Log level and format."`

	schema.Provenance `yaml:"-" json:"-"`
}

// Database configures the connection to PostgreSQL.
type Database struct {
	URL          DatabaseURL   `yaml:"url" default:"postgres://postgres@127.0.0.1:5432/postgres" doc:"The database: postgres://user@host:port/name, with libpq parameters (?sslmode=verify-full&sslrootcert=…). DATABASE_URL sets it too."`
	Password     Secret        `yaml:"password" doc:"The user's password."`
	PasswordFile string        `yaml:"password_file" file:"read" doc:"A file that contains the password; a trailing newline is dropped."`
	Migrate      bool          `yaml:"migrate" default:"true" doc:"Migrate the tables at start; false: wait until ingest migrate has been run."`
	Timeout      time.Duration `yaml:"timeout" default:"30s" min:"1s" max:"10m" doc:"Timeout for writing one batch to the database. After it, the batch is retried."`
}

// Intake configures one stream, its consumer and the topic pattern of its subjects.
type Intake struct {
	Stream   string `yaml:"stream" doc:"The stream; empty: this table is not written."`
	Consumer string `yaml:"consumer" doc:"The name of the durable pull consumer. Processes with the same consumer share the messages."`
	Topic    string `yaml:"topic" doc:"The topic pattern of the stream's subjects, as in the bridge's topics. It captures {tenant}, {device} and, for telemetry, {type}."`
	Workers  int    `yaml:"workers" min:"1" max:"256" doc:"The number of batches processed concurrently, each with its own database connection."`
}

// TelemetryIntake configures the stream of measurements.
type TelemetryIntake struct {
	Intake
	Payload PayloadMode `yaml:"payload" default:"object" enum:"object|wrap|split" doc:"object: JSON objects only, any other payload goes to quarantine; wrap: other JSON and plain text become {\"value\": …}; split: like wrap, with one row per element of an array."`
}

// PayloadMode selects how payloads that are not JSON objects are stored.
type PayloadMode string

// The modes of PayloadMode.
const (
	PayloadObject PayloadMode = "object"
	PayloadWrap   PayloadMode = "wrap"
	PayloadSplit  PayloadMode = "split"
)

// Batch bounds a transaction.
type Batch struct {
	Messages int           `yaml:"messages" default:"500" min:"1" max:"100000" doc:"The maximum number of messages."`
	Bytes    Bytes         `yaml:"bytes" default:"4MiB" min:"64KiB" max:"256MiB" doc:"The maximum size; a larger message forms a batch by itself."`
	Flush    time.Duration `yaml:"flush" default:"1s" min:"10ms" max:"10s" doc:"The maximum time to wait for a batch to fill."`
}

// IngestAdmin configures ingest's HTTP endpoint.
type IngestAdmin struct {
	Listen string `yaml:"listen" default:"127.0.0.1:9465" doc:"The address to listen on for the page at / and for /livez, /readyz, /metrics and /status. The endpoint has no authentication. Empty: none."`
}

// ConsumerMode selects whether ingest creates its consumers.
type ConsumerMode string

// ConsumersVerify only waits for the consumers.
const ConsumersVerify ConsumerMode = "verify"

// LoadIngest is [Load] for ingest. It reads the variables INGEST_…, DATABASE_URL and NATS_URL.
func LoadIngest(s Sources, checks ...func(*Ingest) []Error) (*Ingest, error) {
	c := &Ingest{}
	l := &rules{Loader: schema.NewLoader(IngestProgram(), c, &c.Provenance)}
	l.Read(s)
	l.certificates("nats.tls", c.NATS.TLS.TLS)
	l.accountRules(&c.NATS)
	l.adminRules(c.Admin.Listen, "127.0.0.1:9465")
	l.databaseRules(c)
	l.intakeRules(c)
	for _, check := range checks {
		l.Add(check(c)...)
	}
	if err := l.Err(); err != nil {
		return nil, err
	}
	return c, nil
}

func (l *rules) databaseRules(c *Ingest) {
	if !l.Valid("database.url", "database.password", "database.password_file") {
		return
	}
	if c.Database.URL.hasPassword() && !c.Database.Password.IsZero() {
		l.Conflict("gives a password, and database.url also contains one; keep one of the two", "database.password_file", "database.password")
	}
}

func (l *rules) intakeRules(c *Ingest) {
	streams := map[string]string{}
	for _, in := range []struct {
		path string
		Intake
	}{{"telemetry", c.Telemetry.Intake}, {"shadow", c.Shadow}, {"commands", c.Commands}} {
		stream, consumer := in.path+".stream", in.path+".consumer"
		if in.Stream == "" {
			continue
		}
		for path, name := range map[string]string{stream: in.Stream, consumer: in.Consumer} {
			l.syntax(path, name, validStream(name), `is not a valid name; write one without . * > / \ or spaces`)
		}
		key := in.Stream + "/" + in.Consumer
		if other, twice := streams[key]; twice {
			l.Conflict(fmt.Sprintf("%s is also the consumer of %s; give each its own", schema.Quote(in.Consumer), other), consumer, stream)
		}
		streams[key] = in.path
	}
	if len(streams) == 0 {
		l.Conflict("is empty, and so are all other streams; name at least one", "telemetry.stream", "shadow.stream", "commands.stream")
	}
}

// String works like [Config.String].
func (c *Ingest) String() string { return schema.Lines(c.Settings()) }

// Settings works like [Config.Settings].
func (c *Ingest) Settings() []schema.Setting { return schema.Settings(c, &c.Provenance) }
