package deploytest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"
)

const alertRules = "deploy/prometheus/alerts.yml"

// alert is one rule of the file.
type alert struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
	program             string // Bridge or Ingest
}

// alerts returns the rules of the file, in order.
func alerts(t *testing.T) (all []alert) {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string
			Rules []alert
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, alertRules)), &file))
	prefixes := map[string]string{"mqtt-nats-bridge": "Bridge", "ingest": "Ingest"}
	require.Len(t, file.Groups, len(prefixes))
	for _, group := range file.Groups {
		for _, r := range group.Rules {
			r.program = prefixes[group.Name]
			all = append(all, r)
		}
	}
	return all
}

func TestAlertRules(t *testing.T) {
	t.Parallel()
	t.Run("known metrics and annotations", testKnownMetricsAndAnnotations)
	t.Run("fire on synthetic series", testFireOnSyntheticSeries)
}

func testKnownMetricsAndAnnotations(t *testing.T) {
	t.Parallel()
	watched := map[string]bool{}
	seen := map[string]bool{}
	for _, r := range alerts(t) {
		require.Regexp(t, `^`+r.program+`[A-Z]\w+$`, r.Alert)
		require.False(t, seen[r.Alert], r.Alert)
		seen[r.Alert] = true
		for _, name := range requireKnownMetrics(t, r.Alert, strings.NewReplacer("min_over_time", "", "max_over_time", "").Replace(r.Expr)) {
			require.Equal(t, r.program == "Ingest", strings.HasPrefix(name, "mqttbridge_ingest_"), "%s: %s is another program's", r.Alert, name)
			watched[name] = true
		}
		require.NotEmpty(t, r.Expr, r.Alert)
		require.Contains(t, []string{"page", "ticket"}, r.Labels["severity"], r.Alert)
		require.NotEmpty(t, r.Annotations["summary"], r.Alert)
		if r.Labels["severity"] == "page" {
			require.NotEmpty(t, r.Annotations["description"], r.Alert)
		}
	}
	require.True(t, watched["mqttbridge_ready"], "a bridge that is connected and accepts nothing would be missed")
	for _, name := range []string{
		"qos0_dropped_total", "leaf_link_up", "leaf_store_bytes", "certificate_expiry_timestamp_seconds",
		"stream_fill_ratio", "consumer_lag", "partitions_held", "partitions_unheld",
	} {
		require.True(t, watched["mqttbridge_"+name], "no alert watches %s", name)
	}
	for _, name := range []string{"ready", "lag", "oldest_unacknowledged_seconds", "poison_total", "retried_total", "build_info", "certificate_expiry_timestamp_seconds"} {
		require.True(t, watched["mqttbridge_ingest_"+name], "no alert watches %s of ingest", name)
	}
}

// Each alert links to its section. The sections have the order of the file, and each explains the
// meaning, the diagnosis and the remedy.
func TestRunbook(t *testing.T) {
	t.Parallel()
	page := read(t, "docs/runbook.md")
	sections := strings.Split(page, "\n## ")[1:]
	var titles, names []string
	for _, section := range sections {
		title, text, _ := strings.Cut(section, "\n")
		titles = append(titles, title)
		for _, part := range []string{"\n**Means:** ", "\n**Look at:** ", "\n**Do:** "} {
			require.Equal(t, 1, strings.Count(text, part), "%s: %q", title, part)
		}
	}
	for _, r := range alerts(t) {
		names = append(names, r.Alert)
		require.Equal(t, "docs/runbook.md#"+strings.ToLower(r.Alert), r.Annotations["runbook_url"], r.Alert)
	}
	require.ElementsMatch(t, names, titles)
	for _, m := range regexp.MustCompile(`\]\(#(\w+)\)`).FindAllStringSubmatch(page, -1) {
		require.True(t, slices.ContainsFunc(titles, func(title string) bool { return strings.ToLower(title) == m[1] }), m[0])
	}
	// The rules also name alerts on other pages.
	for _, other := range []string{"docs/emqx.md", "docs/leaf.md", "docs/replicas.md"} {
		for _, m := range regexp.MustCompile("`((?:Bridge|Ingest)[A-Z]\\w+)`").FindAllStringSubmatch(read(t, other), -1) {
			require.Contains(t, names, m[1], other)
		}
	}
}

// testFireOnSyntheticSeries runs the rules on the synthetic series of testdata/alerts.yml.
func testFireOnSyntheticSeries(t *testing.T) {
	t.Parallel()
	promtool := needPeer(t, "promtool")
	out, err := exec.Command(promtool, "check", "rules", filepath.Join(root, alertRules)).CombinedOutput()
	require.NoError(t, err, "%s", out)
	out, err = exec.Command(promtool, "test", "rules", "testdata/alerts.yml").CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// TestDashboardQueries has promtool parse every expression of the dashboards.
func TestDashboardQueries(t *testing.T) {
	t.Parallel()
	promtool := needPeer(t, "promtool")
	type rule struct{ Record, Expr string }
	var rules []rule
	for _, file := range []string{"deploy/grafana/dashboard.json", "deploy/grafana/ingest.json"} {
		var dashboard struct {
			Panels []struct {
				Targets []struct{ Expr string }
			}
		}
		require.NoError(t, json.Unmarshal([]byte(read(t, file)), &dashboard))
		for _, panel := range dashboard.Panels {
			for _, target := range panel.Targets {
				expr := strings.ReplaceAll(target.Expr, "$__rate_interval", "1m")
				rules = append(rules, rule{"panel:" + strconv.Itoa(len(rules)), expr})
			}
		}
	}
	content, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "panels", "rules": rules}}})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "panels.yml")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	out, err := exec.Command(promtool, "check", "rules", path).CombinedOutput()
	require.NoError(t, err, "%s", out)
}
