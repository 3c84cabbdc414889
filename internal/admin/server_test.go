package admin

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/emqx"
	"mqtt-nats-bridge/internal/emqxtest"
	"mqtt-nats-bridge/internal/endpoint"
	"mqtt-nats-bridge/internal/golden"
	"mqtt-nats-bridge/internal/pki"
	"mqtt-nats-bridge/internal/testrun"
)

func TestReadinessWithoutPeers(t *testing.T) {
	t.Parallel()
	s := serve(t, "MQTT_URL=mqtt://127.0.0.1:1", "NATS_URL=nats://127.0.0.1:1")

	code, body := get(t, s, "/livez")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "ok\n", body)

	var problems []any
	require.Eventually(t, func() bool {
		code, body = get(t, s, "/readyz")
		problems, _ = object(t, body)["problems"].([]any)
		return len(problems) == 2 && strings.Count(body, "cannot be reached") == 2
	}, testrun.Timeout, 10*time.Millisecond, "nothing but two peers is unreachable")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, false, object(t, body)["ready"])
	mqtt := problems[1].(map[string]any)
	require.Equal(t, []string{"advice", "component", "lanes", "problem", "since"}, slices.Sorted(maps.Keys(mqtt)))
	require.Equal(t, "mqtt", mqtt["component"])
	require.Len(t, mqtt["lanes"], 16)

	err := endpoint.Healthcheck(t.Context(), "the bridge", s.Addr())
	require.ErrorIs(t, err, endpoint.ErrNotReady)
	for _, p := range problems {
		require.ErrorContains(t, err, p.(map[string]any)["problem"].(string))
	}
}

func TestReadyBridge(t *testing.T) {
	t.Parallel()
	s, mqtt := serveWithPeers(t)
	publish(t, mqtt, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", 3)
	publish(t, mqtt, "acme/a.b/c", "tenant/acme/device/dev-1/telemetry", 2)

	t.Run("readyz", func(t *testing.T) {
		// The bridge is ready before its first read of the limits bucket, which is a warning until
		// then.
		require.Eventually(t, func() bool {
			code, body := get(t, s, "/readyz")
			require.Equal(t, http.StatusOK, code)
			return assert.ObjectsAreEqual(map[string]any{"ready": true}, object(t, body))
		}, testrun.Timeout, 10*time.Millisecond)
	})
	t.Run("status", func(t *testing.T) {
		var status map[string]any
		require.Eventually(t, func() bool {
			_, body := get(t, s, "/status")
			status = object(t, body)
			totals := status["totals"].(map[string]any)
			return totals["received"] == 5.0 && totals["in_flight"] == 0.0
		}, testrun.Timeout, 10*time.Millisecond)
		golden.Require(t, "testdata/status.golden", strings.Join(shape("", status), "\n")+"\n")
		require.Equal(t, "1.2.3", status["version"])
		require.Empty(t, status["problems"])
		require.Len(t, status["lanes"], 16)
		stream := status["streams"].([]any)[0].(map[string]any)
		require.Equal(t, "TELEMETRY", stream["name"])
		require.Equal(t, 3.0, stream["messages"])
	})
	t.Run("device", func(t *testing.T) {
		code, body := get(t, s, "/devices/acme/dev-1")
		require.Equal(t, http.StatusOK, code)
		device := object(t, body)
		require.Equal(t, []string{"device", "last_seen", "limit", "received", "stored", "tenant", "tokens_left"}, slices.Sorted(maps.Keys(device)))
		require.Equal(t, 3.0, device["received"])
	})
	t.Run("device with a slash and a dot", func(t *testing.T) {
		code, body := get(t, s, "/devices/acme/a%2Eb%2Fc")
		require.Equal(t, http.StatusOK, code)
		require.Equal(t, map[string]any{"cn_mismatch": 2.0}, object(t, body)["rejected"])
	})
	t.Run("no such device", func(t *testing.T) {
		for _, path := range []string{"/devices/acme/dev-2", "/devices/acme%2Fa.b/c"} {
			code, body := get(t, s, path)
			require.Equal(t, http.StatusNotFound, code, path)
			require.NotEmpty(t, object(t, body)["error"])
		}
	})
	t.Run("top", func(t *testing.T) {
		for path, want := range map[string][]string{
			"/devices":                    {"dev-1", "a.b/c"},
			"/devices?by=received&top=1":  {"dev-1"},
			"/devices?top=20&by=rejected": {"a.b/c"},
		} {
			code, body := get(t, s, path)
			require.Equal(t, http.StatusOK, code)
			var names []string
			for _, d := range object(t, body)["devices"].([]any) {
				names = append(names, d.(map[string]any)["device"].(string))
			}
			require.Equal(t, want, names, path)
		}
	})
	t.Run("metrics", func(t *testing.T) {
		code, body := get(t, s, "/metrics")
		require.Equal(t, http.StatusOK, code)
		require.Contains(t, body, "mqttbridge_ready 1\n")
		require.Contains(t, body, `mqttbridge_build_info{goversion="go`)
	})
}

func TestParameterErrors(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"top=0":         "give a number from 1 to 1000",
		"top=1001":      "give a number from 1 to 1000",
		"top=x":         "give a number from 1 to 1000",
		"top=":          "give a number from 1 to 1000",
		"by=stored":     "give received or rejected",
		"by=":           "give received or rejected",
		"limit=5":       "the parameters are top and by",
		"top=%zz":       "read parameters",
		"top=1&top=bad": "top=bad",
	} {
		_, _, err := parseTop(query)
		require.ErrorContains(t, err, want, query)
	}
	n, by, err := parseTop("")
	require.NoError(t, err)
	require.Equal(t, 20, n)
	require.EqualValues(t, "received", by)
}

func TestHTTPErrorStatus(t *testing.T) {
	t.Parallel()
	s := serve(t, unreachable()...)
	code, body := get(t, s, "/devices?by=stored")
	require.Equal(t, http.StatusBadRequest, code)
	require.Contains(t, object(t, body)["error"], "give received or rejected")
	code, body = get(t, s, "/devices")
	require.Equal(t, http.StatusOK, code)
	require.JSONEq(t, `{"by":"received","devices":[]}`, body)
	for _, path := range []string{"/nothing", "/devices/acme", "/readyz/", "/debug/vars"} {
		code, _ := get(t, s, path)
		require.Equal(t, http.StatusNotFound, code, path)
	}
	for _, path := range []string{"/readyz", "/status", "/devices"} {
		code, _, header := ask(t, http.MethodPost, s, path)
		require.Equal(t, http.StatusMethodNotAllowed, code, path)
		require.Contains(t, header.Get("Allow"), http.MethodGet)
	}
}

func TestResponseHeaders(t *testing.T) {
	t.Parallel()
	s := serve(t, unreachable()...)
	for path, kind := range map[string]string{
		"/": "text/plain", "/livez": "text/plain", "/metrics": "text/plain",
		"/readyz": "application/json", "/devices": "application/json", "/devices/a/b": "application/json",
	} {
		_, _, header := ask(t, http.MethodGet, s, path)
		require.Contains(t, header.Get("Content-Type"), kind, path)
		if path != "/metrics" {
			require.Equal(t, "no-store", header.Get("Cache-Control"), path)
		}
	}
}

func TestPprofLocalAccess(t *testing.T) {
	t.Parallel()
	s := serve(t, unreachable()...)
	code, _ := get(t, s, "/debug/pprof/goroutine")
	require.Equal(t, http.StatusOK, code)
	_, index := get(t, s, "/")
	require.Contains(t, index, "/debug/pprof/")

	open, err := endpoint.Open("0.0.0.0:0", Program(s.bridge), zerolog.Nop())
	require.NoError(t, err)
	defer open.Close()
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/goroutine", "/debug/pprof/cmdline"} {
		code, _ := get(t, open, path)
		require.Equal(t, http.StatusNotFound, code, path)
	}
	_, index = get(t, open, "/")
	require.NotContains(t, index, "pprof")
}

func TestServer(t *testing.T) {
	t.Parallel()
	t.Run("port in use is reported with address and key", testPortInUseIsReportedWithAddressAndKey)
	t.Run("close is idempotent", testCloseIsIdempotent)
}

func testPortInUseIsReportedWithAddressAndKey(t *testing.T) {
	t.Parallel()
	s := serve(t, unreachable()...)
	_, err := endpoint.Open(s.Addr(), Program(s.bridge), zerolog.Nop())
	require.ErrorContains(t, err, s.Addr())
	require.ErrorContains(t, err, "admin.listen")
}

func testCloseIsIdempotent(t *testing.T) {
	t.Parallel()
	s := serve(t, unreachable()...)
	s.Close()
	s.Close()
	require.ErrorContains(t, endpoint.Healthcheck(t.Context(), "the bridge", s.Addr()), "refused")
}

// TestMetricNames compares the bridge's part of /metrics with a golden file: the labels of each
// metric, without values. Two bridges together cover every metric: a replica with EMQX's API, and a
// leaf node with certificates and spans.
func TestMetricNames(t *testing.T) {
	t.Parallel()
	api := emqxtest.Start(t)
	api.Change(func(s *emqxtest.State) {
		s.Sessions["bridge-p0"] = emqx.Session{ClientID: "bridge-p0", Connected: true}
	})
	emqxEnv, _ := api.Env(t)
	replica, mqtt := serveWithPeers(t, append(emqxEnv, "BRIDGE_LANES_PARTITIONS=auto", "BRIDGE_METRICS_TENANTS=10")...)
	publish(t, mqtt, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", 1)

	authority, err := pki.New()
	require.NoError(t, err)
	client, err := authority.Device("bridge")
	require.NoError(t, err)
	files, err := pki.Write(t.TempDir(), "client", client)
	require.NoError(t, err)
	leaf := serve(t, "MQTT_URL=mqtts://127.0.0.1:1", "NATS_URL=nats://127.0.0.1:1",
		"BRIDGE_MQTT_TLS_CERT="+files.Cert, "BRIDGE_MQTT_TLS_KEY="+files.Key, "BRIDGE_NATS_MODE=leaf",
		"BRIDGE_NATS_LEAF_URL=nats-leaf://127.0.0.1:1", "BRIDGE_NATS_LEAF_DOMAIN=site-a", "BRIDGE_NATS_LEAF_STORE_DIR="+t.TempDir(),
		"BRIDGE_TRACING_RATIO=1", "BRIDGE_TRACING_ENDPOINT=http://127.0.0.1:1")

	var all string
	require.Eventually(t, func() bool { // EMQX's API is polled
		_, all = get(t, replica, "/metrics")
		return strings.Contains(all, "mqttbridge_broker_queue_length{")
	}, testrun.Timeout, 10*time.Millisecond)
	_, more := get(t, leaf, "/metrics")
	golden.Require(t, "testdata/metrics.golden", metricNames(all+more))
}

// metricNames returns the bridge's metrics from the text of /metrics, each with help, kind and
// labels.
func metricNames(text string) string {
	var names []string
	blocks := map[string][]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "# HELP mqttbridge_") {
			names = append(names, strings.Fields(line)[2])
		}
		if !strings.Contains(line, "mqttbridge_") {
			continue
		}
		if !strings.HasPrefix(line, "#") {
			line = withoutValues(line)
		}
		if of := names[len(names)-1]; !slices.Contains(blocks[of], line) {
			blocks[of] = append(blocks[of], line)
		}
	}
	slices.Sort(names)
	var lines []string
	for _, name := range slices.Compact(names) {
		lines = append(lines, blocks[name]...)
	}
	return strings.Join(lines, "\n") + "\n"
}

// withoutValues keeps a sample's name and the names of its labels.
func withoutValues(sample string) string {
	name, rest, ok := strings.Cut(sample, "{")
	if !ok {
		name, _, _ = strings.Cut(sample, " ")
		return name
	}
	var labels []string
	for label := range strings.SplitSeq(rest[:strings.LastIndexByte(rest, '}')], ",") {
		key, _, _ := strings.Cut(label, "=")
		labels = append(labels, key)
	}
	return name + "{" + strings.Join(labels, ",") + "}"
}

// shape lists the paths of a JSON value with their types; of a list only the first element counts.
func shape(path string, v any) []string {
	switch v := v.(type) {
	case map[string]any:
		lines := []string{path + ": object"}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			// The problem reported during the start depends on timing.
			if key != "last_error" {
				lines = append(lines, shape(path+"."+key, v[key])...)
			}
		}
		return lines
	case []any:
		lines := []string{path + ": list"}
		if len(v) > 0 {
			lines = append(lines, shape(path+"[]", v[0])...)
		}
		return lines
	case string:
		return []string{path + ": text"}
	case float64:
		return []string{path + ": number"}
	}
	return []string{fmt.Sprintf("%s: %T", path, v)}
}

func TestListenerOnAllAddressesAnswers(t *testing.T) {
	t.Parallel()
	s := serve(t, unreachable()...)
	open, err := endpoint.Open(":0", Program(s.bridge), zerolog.Nop())
	require.NoError(t, err)
	defer open.Close()
	require.ErrorIs(t, endpoint.Healthcheck(t.Context(), "the bridge", open.Addr()), endpoint.ErrNotReady)
}
