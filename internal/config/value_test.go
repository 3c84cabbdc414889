package config

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"mqtt-nats-bridge/internal/schema"
)

func TestSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Bytes{"0": 0, "65536": 65536, "10B": 10, "256KiB": 256 << 10, "1MiB": 1 << 20, "1 MiB": 1 << 20, "10GiB": 10 << 30, "2TiB": 2 << 40} {
		var b Bytes
		require.NoError(t, b.Parse(text), text)
		require.Equal(t, want, b, text)
	}
	for _, text := range []string{"", "KiB", "-1", "+1", "1.5MiB", "1MB", "1kib", "1_000", "9223372036854775808", "9000000TiB", "x"} {
		var b Bytes
		require.Error(t, b.Parse(text), text)
	}
}

func TestRates(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Rate{"0": 0, "10": 10, "0.5": 0.5, "10/s": 10, "30/m": 0.5, "3600/h": 1, "1/h": 1.0 / 3600, "1e3": 1000} {
		var r Rate
		require.NoError(t, r.Parse(text), text)
		require.InDelta(t, float64(want), float64(r), 1e-12, text)
	}
	for _, text := range []string{"", "/s", "-1", "NaN", "Inf", "1/d", "1/", "0x1p4", "1_0", "fast", "1e999", "0.5/h", "1/s/s"} {
		var r Rate
		require.Error(t, r.Parse(text), text)
	}
}

func TestBurstDefault(t *testing.T) {
	t.Parallel()
	require.Equal(t, 5, RateLimit{Rate: 10, Burst: 5}.Effective())
	require.Equal(t, 20, RateLimit{Rate: 10}.Effective())
	require.Equal(t, 1, RateLimit{Rate: 0.01}.Effective())
	require.Equal(t, 7, RateLimit{Rate: 3.1}.Effective())
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"0": 0, "0s": 0, "500ms": 500 * time.Millisecond, "2m": 2 * time.Minute, "7d": 7 * 24 * time.Hour, "1d12h": 36 * time.Hour, "-1s": -time.Second} {
		d, err := schema.ParseDuration(text)
		require.NoError(t, err, text)
		require.Equal(t, want, d, text)
	}
	for _, text := range []string{"", "30", "abc", "d", "-1d", "1d-1h", "1.5d", "200000d", "106750d2400h", "1 s", "99999999h"} {
		_, err := schema.ParseDuration(text)
		require.Error(t, err, text)
	}
}

func TestValueRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := Bytes(rapid.Int64Min(0).Draw(t, "bytes"))
		var b2 Bytes
		require.NoError(t, b2.Parse(b.String()))
		require.Equal(t, b, b2)

		d := time.Duration(rapid.Int64Min(0).Draw(t, "duration"))
		d2, err := schema.ParseDuration(schema.FormatDuration(d))
		require.NoError(t, err)
		require.Equal(t, d, d2)

		r := Rate(rapid.Float64Range(leastRate, 1e6).Draw(t, "rate"))
		var r2 Rate
		require.NoError(t, r2.Parse(r.String()))
		require.Equal(t, r, r2)

		mask := rapid.IntRange(1, 1<<16-1).Draw(t, "partitions")
		var p, p2 Partitions
		for i := range 16 {
			if mask>>i&1 == 1 {
				p.List = append(p.List, hexDigits[i:i+1])
			}
		}
		require.NoError(t, p2.Parse(p.String()))
		require.Equal(t, p, p2)
	})
}

func TestPartitions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"0-f": "0123456789abcdef", "0-7": "01234567", "a": "a", "0-3,8-b": "012389ab", "8-b, 0": "089ab", "A-C": "abc", "3-3": "3"} {
		var p Partitions
		require.NoError(t, p.Parse(text), text)
		require.Equal(t, want, strings.Join(p.List, ""), text)
	}
	var all Partitions
	require.NoError(t, all.Parse("auto"))
	require.True(t, all.Auto)
	require.Equal(t, "0123456789abcdef", strings.Join(all.List, ""))
	require.Equal(t, "auto", all.String())
	for text, want := range map[string]string{
		"":      "is not a list of partitions",
		"g":     "is not a list of partitions",
		"0-":    "is not a list of partitions",
		"00":    "is not a list of partitions",
		"0-3-5": "is not a list of partitions",
		"0,":    "is not a list of partitions",
		"f-0":   `"f-0" is in descending order; write 0-f`,
		"0-3,2": "names partition 2 twice",
		"Auto":  "is not a list of partitions",
	} {
		var p Partitions
		require.ErrorContains(t, p.Parse(text), want, text)
	}
}

func TestLaneClientIDs(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"bridge-p0", "bridge-pd"}, load(t, "lanes: {partitions: '0,d'}").ClientIDs())
	require.Equal(t, []string{"b-0", "b-1"}, load(t, "identity: {mode: off}\nlanes: {count: 2}\nmqtt: {client_id: b, share: g}").ClientIDs())
}

func TestBrokerURLs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"mqtt://emqx":        "mqtt://emqx:1883",
		"tcp://emqx:1884/":   "mqtt://emqx:1884",
		"mqtts://emqx":       "mqtts://emqx:8883",
		"ssl://emqx:1":       "mqtts://emqx:1",
		"tls://emqx":         "mqtts://emqx:8883",
		"mqtt://[::1]":       "mqtt://[::1]:1883",
		"MQTT://10.0.0.1:99": "mqtt://10.0.0.1:99",

		"mqtt://a, mqtt://b:1884": "mqtt://a:1883,mqtt://b:1884",
		"mqtts://a,ssl://b":       "mqtts://a:8883,mqtts://b:8883",
		"ws://emqx:8083/mqtt":     "ws://emqx:8083/mqtt",
		"mqtts://a,wss://b/mqtt":  "mqtts://a:8883,wss://b:443/mqtt",
	} {
		var u Brokers
		require.NoError(t, u.Parse(text), text)
		require.Equal(t, want, u.String(), text)
	}
	for text, want := range map[string]string{
		"":                  "is not a URL",
		"emqx:1883":         "is not a URL",
		"mqtt:emqx":         "is not a URL",
		"mqtt://":           "names no host",
		"mqtt://:1883":      "names no host",
		"mqtt://e:0":        "port outside",
		"mqtt://e:65536":    "port outside",
		"mqtt://e:x":        "is not a URL",
		"amqp://e":          `unknown scheme "amqp"`,
		"mqtt://e/x":        "more than a host and a port",
		"mqtt://e?x=1":      "more than a host and a port",
		"mqtt://u:p#x@host": "not shown",

		"mqtt://a,mqtts://b":        "mixes plain text and TLS",
		"mqtt://u:p@a,mqtt://u:q@b": "contains different credentials",
		"mqtt://u:p@a,mqtt://b":     "contains different credentials",
		"mqtt://a,":                 "has an empty item in its list",
	} {
		var u Brokers
		require.ErrorContains(t, u.Parse(text), want, text)
	}
}

func TestNATSServers(t *testing.T) {
	t.Parallel()
	var s Servers
	require.NoError(t, s.Parse("nats://a:4222, tls://b,c:4333"))
	require.Equal(t, "nats://a:4222,tls://b,nats://c:4333", s.Join())
	require.NoError(t, s.Parse("ws://a/path,wss://b"))
	for text, want := range map[string]string{
		"":                 "names no host",
		"nats://a,":        "has an empty item in its list",
		"http://a":         `unknown scheme "http"`,
		"nats://":          "names no host",
		"nats://a:99999":   "port outside",
		"nats://a,ws://b":  "mixes ws://",
		"nats://a?x=1":     "more than a host and a port",
		"nats://a/path":    "more than a host and a port",
		"nats://u:p%zz@a":  "not shown",
		"nats://u:hun,a@h": "not shown",
	} {
		var s Servers
		require.ErrorContains(t, s.Parse(text), want, text)
	}
}

// A misspelled value is refused with the correct spelling. No part of a password is shown or parsed
// as a host.
func TestOddURLs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"SCHEME://::1":                "has an IPv6 address without brackets: write [::1]",
		"SCHEME://fe80::1:2:3":        "has an IPv6 address without brackets: write [fe80::1:2:3]",
		"SCHEME://a:1883:1884":        "more than one colon",
		"SCHEME://user:p@hunter2#1@h": "percent-encode it (@ is %40, # is %23",
		"SCHEME://user:hunter2#1@h":   "percent-encode",
		"SCHEME://user:hunter2/1@h":   "percent-encode",
		"SCHEME://user:hunter2?1@h":   "percent-encode",
		"SCHEME://user:hunter2%zz@h":  "is not a URL",
		"SCHEME://user:hunter2":       "is not a URL",
		"SCHEME://us er:hunter2@h":    "percent-encode",
		"SCHEME://h h":                "is not a URL",
		"SCHEME://@h":                 "has an @ without a user before it",
		"SCHEME://h:":                 "has a colon without a port",
		"SCHEME://h:0":                "port outside 1-65535",
		"SCHEME://h:65536":            "port outside 1-65535",
		"SCHEME://h:-1":               "is not a URL",
		"SCHEME://":                   "names no host",
		"SCHEME:///h":                 "names no host",
		"SCHEME:/h":                   "",
		"SCHEME:h":                    "",
		"SCHEME://SCHEME://h":         "",
		"SCHEME://h\\x":               "",
		"SCHEME://[::1":               "is not a URL",
		"SCHEME://[h]":                "",
		"SCHEME://h*":                 "a character in its host",
		"xyz://user:hunter2@h":        "unknown scheme",
		"user:hunter2@h":              "",
		"SCHEME://user:hun,ter2@h":    "",
	} {
		for scheme, parse := range map[string]func(string) error{
			"mqtt": new(Brokers).Parse, "nats": new(Servers).Parse, "nats-leaf": new(LeafServers).Parse,
			"http": new(APIURL).Parse, "postgres": new(DatabaseURL).Parse,
		} {
			if scheme == "postgres" && (text == "SCHEME:///h" || text == "SCHEME://") {
				continue // a Unix socket
			}
			if scheme == "nats" && text == "user:hunter2@h" || scheme == "postgres" && text == "SCHEME://user:hun,ter2@h" {
				continue // the password ends at the right place
			}
			text := strings.ReplaceAll(text, "SCHEME", scheme)
			err := parse(text)
			require.Error(t, err, "%s: %s", scheme, text)
			require.ErrorContains(t, err, want, text)
			require.Regexp(t, "write it like |remove the credentials", err.Error())
			for _, part := range []string{"hunter2", "hun", "ter2"} {
				require.NotContains(t, err.Error(), part, text)
			}
		}
	}
}

func TestURLsAsAList(t *testing.T) {
	t.Parallel()
	c := load(t, "mqtt: {url: ['mqtt://a', 'mqtt://b:1884']}\nnats: {url: ['nats://a', 'nats://b']}")
	require.Equal(t, "mqtt://a:1883,mqtt://b:1884", c.MQTT.URL.String())
	require.Equal(t, "nats://a,nats://b", c.NATS.URL.String())
	got := errorsOf(t, Sources{File: write(t, "bridge.yaml", "mqtt: {url: [['mqtt://a']]}")})
	require.Len(t, got, 1)
	require.Contains(t, got[0], "has an item that is not a single value")
}

func TestDatabaseURLs(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"postgres://ingest@db:5432/telemetry?sslmode=verify-full", "postgresql://u:p%40ss@a:1,b:2/db?target_session_attrs=read-write",
		"postgres:///db?host=/run/postgresql&user=a@b", "postgres://db/x?password=a@b",
	} {
		require.NoError(t, new(DatabaseURL).Parse(text), text)
	}
	file := write(t, "bridge.yaml", "identity: {registry: {kind: postgres, database_url: 'postgres://user:p@hunter2#1@host/db'}}")
	got := errorsOf(t, Sources{File: file})
	require.Len(t, got, 1)
	require.Contains(t, got[0], "percent-encode")
	require.NotContains(t, got[0], "hunter2")
}

func TestWebSocketSettings(t *testing.T) {
	t.Parallel()
	file := write(t, "headers", "Authorization: Bearer one\nX-A: b\n")
	c := load(t, "mqtt: {url: 'ws://emqx/mqtt?v=1', headers_file: "+file+"}")
	require.Equal(t, []BrokerURL{{Host: "emqx", Address: "emqx:80", WebSocket: true, Path: "/mqtt?v=1"}}, c.MQTT.URL.List())
	headers, err := c.MQTT.CurrentHeaders()
	require.NoError(t, err)
	require.Equal(t, "Bearer one", headers.Get("Authorization"))
	require.Equal(t, "b", headers.Get("X-A"))
	require.NotContains(t, c.String(), "Bearer")
	for text, want := range map[string]string{
		"mqtt: {headers: 'A: b'}":                  "applies to the WebSocket handshake",
		"mqtt: {url: ws://h, headers: hunter2}":    "has a line that is not a header; write Name: value",
		"mqtt: {url: mqtt://h, tls: {alpn: mqtt}}": "contradicts mqtt.url, which is plain text",
		"mqtt: {url: wss://h, tls: {alpn: mqtt}}":  "wss:// has its own ALPN protocol",
	} {
		got := errorsOf(t, Sources{File: write(t, "bridge.yaml", text)})
		require.Len(t, got, 1, text)
		require.Contains(t, got[0], want)
		require.NotContains(t, got[0], "hunter2")
	}
	conf, err := load(t, "mqtt: {url: mqtts://h, tls: {alpn: 'mqtt, x-amzn-mqtt-ca'}}").MQTT.TLSConfig()
	require.NoError(t, err)
	require.Equal(t, []string{"mqtt", "x-amzn-mqtt-ca"}, conf.NextProtos)
}

func TestClientIDs(t *testing.T) {
	t.Parallel()
	exact := func(id string) *Config {
		return load(t, "identity: {mode: off}\nmqtt: {exact_client_id: true, client_id: '"+id+"'}")
	}
	for _, id := range []string{"b", "fleet.eu:bridge@site=1~a%2F", strings.Repeat("x", 128)} {
		require.Equal(t, []string{id}, exact(id).ClientIDs())
	}
	require.Equal(t, []string{"b"}, load(t, "mqtt: {exact_client_id: true, client_id: b}\nlanes: {partitions: a}").ClientIDs())
	for text, want := range map[string]string{
		"mqtt: {exact_client_id: true}": "requires a single lane, and 16",
		"identity: {mode: off}\nmqtt: {exact_client_id: true, share: g}\nlanes: {count: 2}": "requires a single lane, and 2",
		"mqtt: {client_id: a/b}":                                "is not a valid client id",
		"mqtt: {client_id: 'a+'}":                               "is not a valid client id",
		"mqtt: {client_id: '$a'}":                               "is not a valid client id",
		"mqtt: {client_id: '.a'}":                               "is not a valid client id",
		"mqtt: {client_id: ''}":                                 "is not a valid client id",
		"mqtt: {client_id: 'a b'}":                              "is not a valid client id",
		"mqtt: {client_id: 'ä'}":                                "is not a valid client id",
		"mqtt: {client_id: '" + strings.Repeat("x", 129) + "'}": "is not a valid client id",
		"mqtt: {client_id: 'a:b'}\nlanes: {partitions: auto}":   "is the prefix of the lease keys",
	} {
		got := errorsOf(t, Sources{File: write(t, "bridge.yaml", text)})
		require.Len(t, got, 1, text)
		require.Contains(t, got[0], want)
	}
}
