package daemon

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/bridge"
	"mqtt-nats-bridge/bridge/limit"
	"mqtt-nats-bridge/bridge/verdict"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/lanelog"
	"mqtt-nats-bridge/internal/plan"
	"mqtt-nats-bridge/internal/registry"
	"mqtt-nats-bridge/internal/streamstatus"
	"mqtt-nats-bridge/internal/testrun"
)

// sums adds up each metric over all lanes, by name and, if there is one, reason. A histogram is
// added up by its count. series counts the added values.
func sums(t *testing.T, g prometheus.Gatherer) (sum map[string]float64, series map[string]int) {
	t.Helper()
	families, err := g.Gather()
	require.NoError(t, err)
	sum, series = map[string]float64{}, map[string]int{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := f.GetName()
			for _, l := range m.GetLabel() {
				if l.GetName() == "reason" {
					key += " " + l.GetValue()
				}
			}
			sum[key] += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			series[key]++
		}
	}
	return sum, series
}

// notStarted is a bridge without connections or lanes.
func notStarted() *Bridge {
	return &Bridge{
		opts: Options{Config: &config.Config{}}, plan: &plan.Plan{},
		dynamic: &dynamic{registry: registry.None{}}, control: &control{}, streams: streamstatus.New(streamstatus.Options{}), devices: limit.NewBudgets(limit.BudgetOptions{}),
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	t.Run("each lane and reason is exported from start", testEachLaneAndReasonIsExportedFromStart)
	t.Run("lane is exported before it opens", testLaneIsExportedBeforeItOpens)
	t.Run("metrics agree with totals", testMetricsAgreeWithTotals)
	t.Run("latency is cumulative and in seconds", testLatencyIsCumulativeAndInSeconds)
	t.Run("process and Go metrics are exported", testProcessAndGoMetricsAreExported)
}

func testEachLaneAndReasonIsExportedFromStart(t *testing.T) {
	t.Parallel()
	b := run(t, "MQTT_URL=mqtt://"+nowhere, "NATS_URL=nats://"+nowhere, "BRIDGE_STREAMS_MANAGE=off")
	pedantic := prometheus.NewPedanticRegistry() // compares Describe with Collect
	pedantic.MustRegister(b.collectors()...)
	sum, series := sums(t, pedantic)
	for _, reason := range verdict.Reasons() {
		for _, name := range []string{"mqttbridge_rejected_total ", "mqttbridge_quarantined_total "} {
			require.Equal(t, 16, series[name+reason.String()])
		}
	}
	for name, value := range sum {
		switch name {
		case "mqttbridge_build_info":
			require.Equal(t, 1.0, value)
		default:
			require.Zero(t, value, name)
		}
	}
}

func testLaneIsExportedBeforeItOpens(t *testing.T) {
	t.Parallel()
	b := notStarted()
	b.lanes = []*laneUnit{newLaneUnit(plan.Lane{ClientID: "bridge-0"}, zerolog.Nop(), lanelog.NewConnections(zerolog.Nop()))}
	sum, series := sums(t, b.Metrics())
	require.Equal(t, 1, series["mqttbridge_received_total"])
	require.Zero(t, sum["mqttbridge_ready"])
	require.Zero(t, sum["mqttbridge_ring_fill_ratio"])
}

func testMetricsAgreeWithTotals(t *testing.T) {
	t.Parallel()
	mqtt, nats := attesting(t), embeddedNATS(t)
	b := run(t, peers(mqtt, nats)...)
	waitReady(t, b)
	publishFrom(t, mqtt, "acme/dev-1", "tenant/acme/device/dev-1/telemetry", 4)
	publishFrom(t, mqtt, "acme/evil", "tenant/acme/device/dev-1/telemetry", 2)
	require.Eventually(t, func() bool {
		c := b.Totals()
		return c.Received == 6 && c.InFlight == 0
	}, testrun.Timeout, 5*time.Millisecond)
	require.True(t, mqtt.Cut("bridge-p0"))
	require.Eventually(t, func() bool {
		sum, _ := sums(t, b.Metrics())
		return sum["mqttbridge_mqtt_reconnects_total"] == 1 && sum["mqttbridge_ready"] == 1
	}, testrun.Timeout, 5*time.Millisecond)

	sum, _ := sums(t, b.Metrics())
	for name, want := range map[string]float64{
		"mqttbridge_received_total":                6,
		"mqttbridge_received_bytes_total":          6 * float64(len(`{"n":0}`)),
		"mqttbridge_stored_total":                  4,
		"mqttbridge_ack_latency_seconds":           4,
		"mqttbridge_rejected_total cn_mismatch":    2,
		"mqttbridge_quarantined_total cn_mismatch": 2,
		"mqttbridge_in_flight":                     0,
		"mqttbridge_session_lost_total":            0,
		"mqttbridge_nats_reconnects_total":         0,
		"mqttbridge_mqtt_connected":                16,
		"mqttbridge_nats_connected":                16,
		"mqttbridge_devices":                       2,
	} {
		require.Equal(t, want, sum[name], name)
	}
}

func testLatencyIsCumulativeAndInSeconds(t *testing.T) {
	t.Parallel()
	h := bridge.Histogram{Count: 7, Sum: 3_500_000_000}
	h.Buckets[0], h.Buckets[2] = 1, 2
	h.Buckets[len(h.Buckets)-1] = 4 // above every bound
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(oneMetric{latencyMetric(describe("latency", "", "lane"), &h, "bridge-0")})
	families, err := registry.Gather()
	require.NoError(t, err)
	got := families[0].GetMetric()[0].GetHistogram()
	require.EqualValues(t, 7, got.GetSampleCount())
	require.Equal(t, 3.5, got.GetSampleSum())
	buckets := got.GetBucket()
	require.Len(t, buckets, len(h.Buckets)-1)
	for i, want := range []uint64{1, 1, 3, 3} {
		require.Equal(t, want, buckets[i].GetCumulativeCount())
		require.InDelta(t, 65.536e-6*math.Exp2(float64(i)), buckets[i].GetUpperBound(), 1e-12)
	}
}

type oneMetric struct{ prometheus.Metric }

func (m oneMetric) Describe(out chan<- *prometheus.Desc) { out <- m.Desc() }
func (m oneMetric) Collect(out chan<- prometheus.Metric) { out <- m.Metric }

func testProcessAndGoMetricsAreExported(t *testing.T) {
	t.Parallel()
	b := notStarted()
	families, err := b.Metrics().Gather()
	require.NoError(t, err)
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				require.NotContains(t, []string{"device", "topic", "tenant"}, strings.ToLower(l.GetName()))
			}
		}
	}
	require.Subset(t, names, []string{"go_memstats_heap_inuse_bytes", "process_cpu_seconds_total", "process_resident_memory_bytes"})
}
