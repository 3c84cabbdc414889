package deploytest

import (
	"encoding/json"
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

func TestMetricsAreThoseThatTheBridgeHas(t *testing.T) {
	t.Parallel()
	// internal/admin holds this file against a running bridge.
	served := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^(mqttbridge_\w+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})?$`).
		FindAllStringSubmatch(read(t, "internal/admin/testdata/metrics.golden"), -1) {
		served[m[1]] = append(served[m[1]], strings.Split(m[2], ",")...)
	}
	for name, labels := range metrics {
		require.Contains(t, served, name)
		require.Subset(t, served[name], labels, name)
	}
}

// requireKnownMetrics checks a PromQL expression and returns the metrics in it.
func requireKnownMetrics(t *testing.T, where, expr string) (used []string) {
	t.Helper()
	for _, name := range regexp.MustCompile(`\bmqttbridge_\w+`).FindAllString(expr, -1) {
		name = strings.TrimSuffix(name, "_bucket")
		if !slices.Contains(leaseMetrics, name) {
			require.Contains(t, metrics, name, where)
		}
		used = append(used, name)
	}
	for _, m := range regexp.MustCompile(`\bby \(([^)]*)\)`).FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(m[1], ", ") {
			known := label == "instance" || label == "le" ||
				slices.ContainsFunc(used, func(name string) bool { return slices.Contains(metrics[name], label) })
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

func TestDashboardShowsEveryMetric(t *testing.T) {
	t.Parallel()
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
	require.NoError(t, json.Unmarshal([]byte(read(t, "deploy/grafana/dashboard.json")), &dashboard))
	require.NotEmpty(t, dashboard.UID)
	require.NotEmpty(t, dashboard.Title)

	shown := map[string]bool{}
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
	for name := range metrics {
		require.True(t, shown[name], "no panel shows %s", name)
	}
	for _, name := range leaseMetrics {
		require.True(t, shown[name], "no panel shows %s", name)
	}
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
	require.Len(t, file.Groups, 1)
	seen := map[string]bool{}
	for _, r := range file.Groups[0].Rules {
		require.Regexp(t, `^Bridge\w+$`, r.Alert)
		require.False(t, seen[r.Alert], r.Alert)
		seen[r.Alert] = true
		require.NotEmpty(t, requireKnownMetrics(t, r.Alert, strings.ReplaceAll(r.Expr, "min_over_time", "")), r.Alert)
		require.Contains(t, []string{"page", "ticket"}, r.Labels["severity"], r.Alert)
		require.NotEmpty(t, r.Annotations["summary"], r.Alert)
		if r.Labels["severity"] == "page" {
			require.NotEmpty(t, r.Annotations["description"], r.Alert)
		}
	}
}
