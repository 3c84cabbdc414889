package deploytest

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"
)

// metrics are the names that operators see, and the labels that each may have:
// those of /metrics that the dashboard shows.
var metrics = map[string][]string{
	"mqttbridge_received_total":           {"lane"},
	"mqttbridge_stored_total":             {"lane"},
	"mqttbridge_rejected_total":           {"lane", "reason"},
	"mqttbridge_quarantine_skipped_total": {"lane"},
	"mqttbridge_redelivered_total":        {"lane"},
	"mqttbridge_duplicates_total":         {"lane"},
	"mqttbridge_resent_total":             {"lane"},
	"mqttbridge_in_flight":                {"lane"},
	"mqttbridge_ring_fill_ratio":          {"lane"},
	"mqttbridge_oldest_unsettled_seconds": {"lane"},
	"mqttbridge_ack_latency_seconds":      {"lane"},
	"mqttbridge_session_lost_total":       {"lane"},
	"mqttbridge_mqtt_reconnects_total":    {"lane"},
	"mqttbridge_nats_reconnects_total":    {"lane"},
	"mqttbridge_mqtt_connected":           {"lane"},
	"mqttbridge_nats_connected":           {"lane"},
	"mqttbridge_ready":                    nil,
	"mqttbridge_devices":                  nil,
	"mqttbridge_limit_overrides":          nil,
	"mqttbridge_limit_overrides_refused":  nil,
	"mqttbridge_limit_overrides_stale":    nil,
	"mqttbridge_registry_entries":         nil,
	"mqttbridge_registry_refused":         nil,
	"mqttbridge_registry_stale":           nil,
	"mqttbridge_build_info":               {"version"},
}

// leaseMetrics are those that a bridge has with lanes.partitions auto alone.
var leaseMetrics = []string{
	"mqttbridge_replicas", "mqttbridge_partitions_held", "mqttbridge_partitions_unheld", "mqttbridge_leases_reachable",
	"mqttbridge_partitions_taken_total", "mqttbridge_partitions_handed_over_total", "mqttbridge_partitions_lost_total",
}

// brokerMetrics are those that a bridge has with mqtt.emqx alone.
var brokerMetrics = map[string][]string{
	"mqttbridge_broker_api_up": nil, "mqttbridge_broker_dropped_total": {"reason"},
	"mqttbridge_broker_queue_length": {"lane"}, "mqttbridge_broker_queue_limit": {"lane"},
	"mqttbridge_broker_queue_dropped_total": {"lane"}, "mqttbridge_broker_in_flight": {"lane"},
}

// ingestMetrics are all of ingest's, with their labels.
var ingestMetrics = map[string][]string{
	"mqttbridge_ingest_rows_total":                    {"table"},
	"mqttbridge_ingest_duplicates_total":              {"table"},
	"mqttbridge_ingest_batches_total":                 {"table"},
	"mqttbridge_ingest_messages_total":                {"table"},
	"mqttbridge_ingest_redelivered_total":             {"table"},
	"mqttbridge_ingest_acknowledged_total":            {"table"},
	"mqttbridge_ingest_retried_total":                 {"table"},
	"mqttbridge_ingest_clock_ignored_total":           {"table"},
	"mqttbridge_ingest_poison_total":                  {"table"},
	"mqttbridge_ingest_exchanges_total":               {"table"},
	"mqttbridge_ingest_exchange_failures_total":       {"table"},
	"mqttbridge_ingest_in_hand":                       {"table"},
	"mqttbridge_ingest_lag":                           {"table"},
	"mqttbridge_ingest_oldest_unacknowledged_seconds": {"table"},
	"mqttbridge_ingest_ready":                         nil,
	"mqttbridge_ingest_build_info":                    {"version"},
}

// served are the metrics of a golden file, with their labels.
func served(t *testing.T, golden string) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^(mqttbridge_\w+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})?$`).
		FindAllStringSubmatch(read(t, golden), -1) {
		all[m[1]] = append(all[m[1]], strings.Split(m[2], ",")...)
	}
	return all
}

func TestMetricsAreThoseThatTheProgramsHave(t *testing.T) {
	t.Parallel()
	// internal/admin holds this file against a running bridge, internal/ingest
	// the other against a running ingest.
	bridge := served(t, "internal/admin/testdata/metrics.golden")
	for name, labels := range metrics {
		require.Contains(t, bridge, name)
		require.Subset(t, bridge[name], labels, name)
	}
	ingest := served(t, "internal/ingest/testdata/metrics.golden")
	require.ElementsMatch(t, slices.Collect(maps.Keys(ingest)), slices.Collect(maps.Keys(ingestMetrics)))
	for name, labels := range ingestMetrics {
		require.Subset(t, ingest[name], labels, name)
	}
}

// labels are those of a metric of either program; leases have none.
func labels(name string) (labels []string, known bool) {
	for _, of := range []map[string][]string{metrics, brokerMetrics, ingestMetrics} {
		if l, ok := of[name]; ok {
			return l, true
		}
	}
	return nil, slices.Contains(leaseMetrics, name)
}

// requireKnownMetrics checks a PromQL expression and returns the metrics in it.
func requireKnownMetrics(t *testing.T, where, expr string) (used []string) {
	t.Helper()
	for _, name := range regexp.MustCompile(`\bmqttbridge_\w+`).FindAllString(expr, -1) {
		name = strings.TrimSuffix(name, "_bucket")
		_, known := labels(name)
		require.True(t, known, "%s: no program has %s", where, name)
		used = append(used, name)
	}
	for _, m := range regexp.MustCompile(`\bby \(([^)]*)\)`).FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(m[1], ", ") {
			known := label == "instance" || label == "le" ||
				slices.ContainsFunc(used, func(name string) bool { of, _ := labels(name); return slices.Contains(of, label) })
			require.True(t, known, "%s: no metric there has the label %s", where, label)
		}
	}
	// A counter is only of use as a rate, a gauge never is.
	for _, m := range regexp.MustCompile(`(rate|increase)?\(?(mqttbridge_\w+)`).FindAllStringSubmatch(expr, -1) {
		counter := strings.HasSuffix(m[2], "_total") || strings.HasSuffix(m[2], "_bucket")
		require.Equal(t, counter, m[1] != "", "%s: %s", where, m[0])
	}
	return used
}

func TestDashboardsShowEveryMetric(t *testing.T) {
	t.Parallel()
	shown := dashboard(t, "deploy/grafana/dashboard.json")
	for name := range metrics {
		require.True(t, shown[name], "no panel shows %s", name)
	}
	for _, name := range leaseMetrics {
		require.True(t, shown[name], "no panel shows %s", name)
	}
	for name := range brokerMetrics {
		require.True(t, shown[name], "no panel shows %s", name)
	}
	shown = dashboard(t, "deploy/grafana/ingest.json")
	for name := range ingestMetrics {
		require.True(t, shown[name], "no panel shows %s", name)
	}
}

// dashboard checks one and returns the metrics that it shows.
func dashboard(t *testing.T, file string) (shown map[string]bool) {
	t.Helper()
	type rectangle struct{ X, Y, W, H int }
	var dashboard struct {
		UID, Title    string
		SchemaVersion int
		Panels        []struct {
			ID          int
			Type, Title string
			GridPos     rectangle
			Targets     []struct{ RefID, Expr string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(read(t, file)), &dashboard))
	require.NotEmpty(t, dashboard.UID)
	require.NotEmpty(t, dashboard.Title)

	shown = map[string]bool{}
	ids := map[int]bool{}
	var placed []rectangle
	for _, p := range dashboard.Panels {
		require.False(t, ids[p.ID], "panel id %d is used twice", p.ID)
		ids[p.ID] = true
		for _, other := range placed {
			apart := p.GridPos.X+p.GridPos.W <= other.X || other.X+other.W <= p.GridPos.X ||
				p.GridPos.Y+p.GridPos.H <= other.Y || other.Y+other.H <= p.GridPos.Y
			require.True(t, apart, "%s lies on another panel", p.Title)
		}
		placed = append(placed, p.GridPos)
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		require.Equal(t, p.Type != "row", len(p.Targets) > 0, p.Title)
		for _, target := range p.Targets {
			for _, name := range requireKnownMetrics(t, p.Title, target.Expr) {
				shown[name] = true
			}
		}
	}
	return shown
}

func TestAlertsSayWhatToDoAboutKnownMetrics(t *testing.T) {
	t.Parallel()
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "deploy/prometheus/alerts.yml")), &file))
	require.Len(t, file.Groups, 2)
	watched := map[string]bool{}
	prefixes := map[string]string{"mqtt-nats-bridge": "Bridge", "ingest": "Ingest"}
	seen := map[string]bool{}
	for _, group := range file.Groups {
		for _, r := range group.Rules {
			require.Regexp(t, `^`+prefixes[group.Name]+`[A-Z]\w+$`, r.Alert)
			require.False(t, seen[r.Alert], r.Alert)
			seen[r.Alert] = true
			for _, name := range requireKnownMetrics(t, r.Alert, strings.NewReplacer("min_over_time", "", "max_over_time", "").Replace(r.Expr)) {
				_, ofIngest := ingestMetrics[name]
				require.Equal(t, group.Name == "ingest", ofIngest, "%s: %s is another program's", r.Alert, name)
				watched[name] = true
			}
			require.NotEmpty(t, r.Expr, r.Alert)
			require.Contains(t, []string{"page", "ticket"}, r.Labels["severity"], r.Alert)
			require.NotEmpty(t, r.Annotations["summary"], r.Alert)
			if r.Labels["severity"] == "page" {
				require.NotEmpty(t, r.Annotations["description"], r.Alert)
			}
		}
	}
	require.True(t, watched["mqttbridge_ready"], "a bridge that is connected and takes nothing would go unnoticed")
	for _, name := range []string{"ready", "lag", "oldest_unacknowledged_seconds", "poison_total", "retried_total", "build_info"} {
		require.True(t, watched["mqttbridge_ingest_"+name], "no alert watches %s of ingest", name)
	}
}
