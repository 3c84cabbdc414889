package config

import (
	"fmt"
	"strings"
	"time"

	"mqtt-nats-bridge/internal/schema"
)

// Ingest is the configuration of ingest, the program that writes the streams into
// PostgreSQL. It is read as the bridge's is.
type Ingest struct {
	Database      Database        `yaml:"database" doc:"The PostgreSQL database."`
	NATS          Account         `yaml:"nats" doc:"The NATS servers and the account used there. At most one of creds, user, token, nkey, context or credentials in the URL."`
	Consumers     ConsumerMode    `yaml:"consumers" default:"create" enum:"create|verify" doc:"create: make a durable consumer that is missing, where the account may; verify: only wait for it. The bridge makes them too."`
	Telemetry     TelemetryIntake `yaml:"telemetry" defaults:"stream=TELEMETRY,consumer=ingest-workers,topic=tenant/{tenant}/device/{device}/{type},workers=4" doc:"What goes into the table telemetry."`
	Shadow        Intake          `yaml:"shadow" defaults:"stream=SHADOW,consumer=ingest-shadow,topic=tenant/{tenant}/device/{device}/shadow/reported,workers=1" doc:"What goes into the table device_state."`
	Commands      Intake          `yaml:"commands" defaults:"stream=COMMANDS,consumer=ingest-commands,topic=tenant/{tenant}/device/{device}/commands/ack,workers=1" doc:"What goes into the table device_commands."`
	Batch         Batch           `yaml:"batch" doc:"How many messages share one transaction."`
	MaxDeliveries int             `yaml:"max_deliveries" default:"100" min:"0" max:"1000000" doc:"How often a message is tried before it goes to quarantine; 0: indefinitely. A time without the database is not a try: only attempts that ended with this process, or with an error of this one message, count."`
	StopTimeout   time.Duration   `yaml:"stop_timeout" default:"10s" min:"100ms" max:"10m" doc:"On SIGTERM, how long to wait for batches that are being stored. What is left is delivered again."`
	Admin         IngestAdmin     `yaml:"admin" doc:"The HTTP endpoint for operators."`
	Log           Log             `yaml:"log" doc:"What is logged, and how."`

	schema.Provenance `yaml:"-" json:"-"`
}

// Database is where the tables are.
type Database struct {
	URL          DatabaseURL   `yaml:"url" default:"postgres://postgres@127.0.0.1:5432/postgres" doc:"The database: postgres://user@host:port/name. DATABASE_URL sets it too. Parameters of libpq may follow (?sslmode=verify-full&sslrootcert=…). Each worker has a connection of its own; a pooler must keep sessions apart."`
	Password     Secret        `yaml:"password" doc:"The user's password."`
	PasswordFile string        `yaml:"password_file" file:"read" doc:"A file that holds the password; a trailing newline is dropped."`
	Migrate      bool          `yaml:"migrate" default:"true" doc:"Bring the tables to this version's at start. false: ingest waits until ingest migrate has."`
	Timeout      time.Duration `yaml:"timeout" default:"30s" min:"1s" max:"10m" doc:"How long one batch may take in the database before it is tried again."`
}

// Intake is one stream with its consumer and what its subjects mean.
type Intake struct {
	Stream   string `yaml:"stream" doc:"The stream; empty: this table is not written."`
	Consumer string `yaml:"consumer" doc:"The durable pull consumer. All processes that share it share the messages."`
	Topic    string `yaml:"topic" doc:"The pattern of the topics behind the stream's subjects, as in the bridge's topics. It captures {tenant} and {device}; for telemetry {type} too."`
	Workers  int    `yaml:"workers" min:"1" max:"256" doc:"Batches worked on at once, each on a database connection of its own."`
}

// TelemetryIntake is the stream of measurements.
type TelemetryIntake struct {
	Intake
	Payload PayloadMode `yaml:"payload" default:"object" enum:"object|wrap|split" doc:"What a payload may be. object: a JSON object; anything else goes to quarantine. wrap: other JSON values and plain text are stored as {\"value\": …}. split: as wrap, but each element of an array becomes a row of its own, with the id <message id>/<index>."`
}

// PayloadMode is how payloads that are not JSON objects are stored.
type PayloadMode string

// The modes of PayloadMode.
const (
	PayloadObject PayloadMode = "object"
	PayloadWrap   PayloadMode = "wrap"
	PayloadSplit  PayloadMode = "split"
)

// Batch bounds a transaction.
type Batch struct {
	Messages int           `yaml:"messages" default:"500" min:"1" max:"100000" doc:"Messages at most."`
	Bytes    Bytes         `yaml:"bytes" default:"4MiB" min:"64KiB" max:"256MiB" doc:"Size at most; a single larger message comes alone."`
	Flush    time.Duration `yaml:"flush" default:"1s" min:"10ms" max:"10s" doc:"How long to wait for a batch to fill."`
}

// IngestAdmin is ingest's HTTP endpoint.
type IngestAdmin struct {
	Listen string `yaml:"listen" default:"127.0.0.1:9465" doc:"Address of the page at / and of /livez, /readyz, /metrics and /status; it has no authentication. Empty: none."`
}

// ConsumerMode is how far ingest may go with its consumers.
type ConsumerMode string

// The ways with consumers.
const (
	ConsumersCreate ConsumerMode = "create"
	ConsumersVerify ConsumerMode = "verify"
)

// LoadIngest is [Load] for ingest: INGEST_… variables, DATABASE_URL and NATS_URL.
// check adds errors as [Sources].Check does.
func LoadIngest(s Sources, check func(*Ingest) []Error) (*Ingest, error) {
	c := &Ingest{}
	l := &rules{Loader: schema.NewLoader(IngestProgram(), c, &c.Provenance)}
	l.Read(s.sources())
	l.certificates("nats.tls", c.NATS.TLS.TLS)
	l.accountRules(&c.NATS)
	l.adminRules(c.Admin.Listen, "127.0.0.1:9465")
	l.databaseRules(c)
	l.intakeRules(c)
	if check != nil {
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
		l.Conflict("gives a password, and so does database.url; keep one of the two", "database.password_file", "database.password")
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
			if l.Valid(path) && (name == "" || len(name) > 255 || strings.ContainsAny(name, ". \t*>/\\")) {
				l.Conflict(schema.Quote(name)+` does not serve as a name; write one without . * > / \ or spaces`, path)
			}
		}
		key := in.Stream + "/" + in.Consumer
		if other, twice := streams[key]; twice {
			l.Conflict(fmt.Sprintf("%s is the consumer of %s too; give each its own", schema.Quote(in.Consumer), other), consumer, stream)
		}
		streams[key] = in.path
	}
	if len(streams) == 0 {
		l.Conflict("is empty, and so are all other streams: there is nothing to do; name one", "telemetry.stream", "shadow.stream", "commands.stream")
	}
}

// Redacted is as [Config.Redacted].
func (c *Ingest) Redacted() string { return schema.Lines(c.Settings()) }

// Settings is as [Config.Settings].
func (c *Ingest) Settings() []schema.Setting { return schema.Settings(c, &c.Provenance) }

// String is Redacted.
func (c *Ingest) String() string { return c.Redacted() }
