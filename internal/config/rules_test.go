package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// testdata/errors.*.yaml has the conflicts within whole files. This test has each rule alone,
// beside a valid setting close to it.
func TestConflicts(t *testing.T) {
	t.Parallel()
	for _, rule := range []struct{ name, yaml, want string }{
		{"attested lanes have no count", "lanes: {count: 1}", "lanes.count: contradicts identity.mode attested"},
		{"attested topics have no share", "mqtt: {share: g}", "mqtt.share: names a share group"},
		{"plain lanes have no partitions", "identity: {mode: off}\nlanes: {partitions: 0-f}", "lanes.partitions: contradicts identity.mode off"},
		{"plain lanes share", "identity: {mode: off}\nlanes: {count: 2}", "lanes.count: is 2 without mqtt.share"},
		{"one plain lane", "identity: {mode: off}\nlanes: {count: 1}", ""},
		{"plain lanes with share", "identity: {mode: off}\nlanes: {count: 2}\nmqtt: {share: g}", ""},
		{"share has no wildcard", "identity: {mode: off}\nmqtt: {share: a/b}", "mqtt.share: \"a/b\" is not a valid"},
		{"tls never on plain text", "mqtt: {url: mqtt://h, tls: {server_name: x}}", "mqtt.tls.server_name: contradicts mqtt.url"},
		{"tls with the default URL", "mqtt: {tls: {server_name: x}}", "mqtt.tls.server_name: contradicts mqtt.url"},
		{"tls with mqtts", "mqtt: {url: mqtts://h, tls: {server_name: x}}", ""},
		{"mqtts without tls block", "mqtt: {url: mqtts://h}", ""},
		{"registry needs attested topics", "identity: {mode: off, registry: {kind: kv}}", "identity.registry.kind: contradicts identity.mode off"},
		{"registry in a bucket", "identity: {registry: {kind: kv}}", ""},
		{"bucket of the registry", "identity: {registry: {kind: kv, bucket: a.b}}", "identity.registry.bucket: \"a.b\" is not a valid"},
		{"postgres needs a database", "identity: {registry: {kind: postgres}}", "identity.registry.kind: is postgres without a database"},
		{"postgres with a database", "identity: {registry: {kind: postgres, database_url: 'postgres://h/db'}}", ""},
		{"database without postgres", "identity: {registry: {database_url: 'postgres://h/db'}}", "identity.registry.database_url: is given, and identity.registry.kind is none"},
		{"bucket of the limits", "limits: {bucket: 'a b'}", "limits.bucket: \"a b\" is not a valid"},
		{"no bucket of limits", "limits: {bucket: ''}", ""},
		{"payload fits the packet", "limits: {payload: 2MiB}", "limits.payload: 2MiB exceeds mqtt.max_packet (1MiB)"},
		{"packet holds the payload", "mqtt: {max_packet: 128KiB}", "mqtt.max_packet: 128KiB is below limits.payload (256KiB)"},
		{"payload as large as the packet", "limits: {payload: 1MiB}", ""},
		{"password needs a user", "mqtt: {password: x}", "mqtt.password: is given without mqtt.username"},
		{"user without password", "mqtt: {username: x}", ""},
		{"client id for files and headers", "mqtt: {client_id: a/b}", "mqtt.client_id: \"a/b\" is not a valid"},
		{"client id not empty", "mqtt: {client_id: ''}", "mqtt.client_id: \"\" is not a valid"},
		{"keep-alive in seconds", "mqtt: {keepalive: 1500ms}", "mqtt.keepalive: \"1500ms\" is not a multiple of 1s"},
		{"nats password needs a user", "nats: {password: x}", "nats.password: is given without nats.user"},
		{"nats user needs a password", "nats: {user: x}", "nats.user: is given without a password"},
		{"one way to authenticate", "nats: {user: x, password: y, token: z}", "nats.token: gives credentials, and so does nats.user"},
		{"context brings credentials", "nats: {context: c, token: z}", "nats.token: gives credentials, and so does nats.context"},
		{"inbox prefix is a subject", "nats: {inbox_prefix: a.*}", "nats.inbox_prefix: \"a.*\" is not a valid"},
		{"inbox prefix has no empty token", "nats: {inbox_prefix: a.}", "nats.inbox_prefix: \"a.\" is not a valid"},
		{"leaf keys want leaf mode", "nats: {leaf: {domain: a}}", "nats.leaf.domain: applies only with nats.mode: leaf"},
		{"a leaf node", "nats: {mode: leaf, leaf: {url: nats-leaf://h, domain: a, store_dir: d}}", ""},
		{"a leaf node has a hub", "nats: {mode: leaf, leaf: {domain: a, store_dir: d}}", "nats.leaf.url: is required with nats.mode: leaf"},
		{"a leaf node has a domain", "nats: {mode: leaf, leaf: {url: nats-leaf://h, store_dir: d}}", "nats.leaf.domain: is required"},
		{"a leaf node has a store", "nats: {mode: leaf, leaf: {url: nats-leaf://h, domain: a}}", "nats.leaf.store_dir: is required"},
		{"a domain is a token", "nats: {mode: leaf, leaf: {url: nats-leaf://h, domain: a.b, store_dir: d}}", "nats.leaf.domain: \"a.b\" is not a valid"},
		{"the link has the credentials of nats", "nats: {mode: leaf, leaf: {url: 'nats-leaf://u:p@h', domain: a, store_dir: d}}", "the link uses those of nats.user"},
		{"a listener for leaf nodes", "nats: {mode: leaf, leaf: {url: 'http://h', domain: a, store_dir: d}}", "has the unknown scheme \"http\""},
		{"the store holds a payload", "nats: {mode: leaf, leaf: {url: nats-leaf://h, domain: a, store_dir: d, max_payload: 128KiB}}", "nats.leaf.max_payload: 128KiB is below limits.payload (256KiB)"},
		{"the store is not the journals'", "state_dir: d\nnats: {mode: leaf, leaf: {url: nats-leaf://h, domain: a, store_dir: d}}", "nats.leaf.store_dir: is the same directory as state_dir"},
		{"a leaf node stores all topics", "topics: [{topic: 'a/{tenant}/{device}', stream: none}]\nnats: {mode: leaf, leaf: {url: nats-leaf://h, domain: a, store_dir: d}}", "topics[0].stream: is none, and with nats.mode: leaf no local stream would store the messages"},
		{"prefix is a topic", "identity: {prefix: bridge/+}", "identity.prefix: \"bridge/+\" is not a valid"},
		{"prefix has no empty level", "identity: {prefix: bridge/}", "identity.prefix: \"bridge/\" is not a valid"},
		{"prefix is not the broker's own", "identity: {prefix: $SYS/x}", "identity.prefix: \"$SYS/x\" is not a valid"},
		{"the limiter remembers a refill", "limits: {device: {rate: 1/h, burst: 25}}", "limits.device.burst: takes 25h to refill"},
		{"the limiter remembers a refill at a low rate", "limits: {device: {rate: 1/h}, idle: 1h}", "limits.device.rate: takes 1000h to refill"},
		{"the limiter remembers default refills", "limits: {idle: 1m}", ""},
		{"the limiter remembers just so", "limits: {device: {rate: 1/h, burst: 24}}", ""},
		{"stream names differ", "streams: {shadow: {name: COMMANDS}}", "\"COMMANDS\" is also the name of streams.shadow"},
		{"stream names are tokens", "streams: {shadow: {name: a.b}}", "streams.shadow.name: \"a.b\" is not a valid"},
		{"age outlasts the window", "streams: {shadow: {max_age: 1m}}", "streams.shadow.max_age: 1m is below streams.duplicate_window (2m)"},
		{"default ages outlast any window", "streams: {duplicate_window: 24h}", ""},
		{"no age at all", "streams: {shadow: {max_age: 0s}}", ""},
		{"admin off", "admin: {listen: ''}", ""},
		{"admin on any port", "admin: {listen: ':0'}", ""},
		{"admin port in range", "admin: {listen: ':65536'}", "admin.listen: \":65536\" is not an address"},
	} {
		t.Run(rule.name, func(t *testing.T) {
			t.Parallel()
			if rule.want == "" {
				load(t, rule.yaml)
				return
			}
			got := errorsOf(t, Sources{File: write(t, "bridge.yaml", rule.yaml)})
			require.Len(t, got, 1)
			require.Contains(t, got[0], rule.want)
			require.Regexp(t, `^bridge\.yaml:\d+: `, got[0])
		})
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	t.Run("context supplies servers unless URL is set", testContextSuppliesServersUnlessURLIsSet)
	t.Run("nats-leaf port defaults to 7422", testNatsLeafPortDefaultsTo7422)
	t.Run("warning states the consequence", testWarningStatesTheConsequence)
}

func testContextSuppliesServersUnlessURLIsSet(t *testing.T) {
	t.Parallel()
	require.True(t, load(t, "nats: {context: c}").NATS.URL.IsZero())
	require.Equal(t, "nats://h", load(t, "nats: {context: c, url: nats://h}").NATS.URL.Join())
}

func testNatsLeafPortDefaultsTo7422(t *testing.T) {
	t.Parallel()
	c := load(t, "nats: {mode: leaf, leaf: {url: 'nats-leaf://h,tls://i:1,wss://j', domain: a, store_dir: d}}")
	require.Equal(t, "nats-leaf://h:7422,tls://i:1,wss://j", c.NATS.Leaf.URL.String())
}

func TestStrictOrder(t *testing.T) {
	t.Parallel()
	const leaf = "mode: leaf, leaf: {url: 'nats-leaf://h', domain: a, store_dir: d}"
	for yaml, want := range map[string]bool{
		"":                         false,
		"streams: {replicas: 3}":   true,
		"nats: {strict_order: on}": true,
		"nats: {strict_order: off}\nstreams: {replicas: 3}": false,
		"nats: {" + leaf + "}":                              true, // its store may be full
		"nats: {strict_order: off, " + leaf + "}":           false,
	} {
		require.Equal(t, want, load(t, yaml).Strict(), yaml)
	}
}

func testWarningStatesTheConsequence(t *testing.T) {
	t.Parallel()
	require.Empty(t, load(t, "nats: {ack_timeout: 3s}").Warnings())
	got := load(t, "nats: {ack_timeout: 5s}").Warnings()
	require.Len(t, got, 1)
	require.Contains(t, got[0], "bridge.yaml:1: nats.ack_timeout: is above 3s")

	got = load(t, "lanes: {partitions: auto}\nlimits: {tenant: {rate: 50}}").Warnings()
	require.Len(t, got, 1)
	require.Contains(t, got[0], "limits.tenant: applies per replica")
	require.Empty(t, load(t, "nats: {ack_timeout: 5s, mode: leaf, leaf: {url: 'nats-leaf://h', domain: a, store_dir: d}}").Warnings(), "one server has no leaders to change")

	got = load(t, "identity: {mode: off}").Warnings()
	require.Len(t, got, 2)
	require.Contains(t, got[0], "identity.mode: is off: only the broker's ACL controls")
	require.Contains(t, got[1], "state_dir: is empty")
	require.Len(t, load(t, "identity: {mode: off}\nstate_dir: "+t.TempDir()).Warnings(), 1)
}
