package deploytest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/golden"
)

// The golden files contain the /metrics of running programs. internal/admin and internal/ingest
// write them and compare the programs with them.
const (
	bridgeMetrics = "internal/admin/testdata/metrics.golden"
	ingestMetrics = "internal/ingest/testdata/metrics.golden"
)

type metric struct {
	help, kind string
	labels     []string
}

// served returns the metrics of a golden file.
func served(t *testing.T, golden string) map[string]*metric {
	t.Helper()
	all := map[string]*metric{}
	for line := range strings.Lines(read(t, golden)) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, help, _ := strings.Cut(rest, " ")
			all[name] = &metric{help: help}
			continue
		}
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			all[name].kind = kind
			continue
		}
		m := regexp.MustCompile(`^(mqttbridge_\w+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})?$`).FindStringSubmatch(line)
		require.NotNil(t, m, line)
		for label := range strings.SplitSeq(m[2], ",") {
			if label != "" && !slices.Contains(all[m[1]].labels, label) {
				all[m[1]].labels = append(all[m[1]].labels, label)
			}
		}
	}
	require.NotEmpty(t, all)
	return all
}

// known returns the metrics of both programs.
func known(t *testing.T) map[string]*metric {
	t.Helper()
	all := served(t, bridgeMetrics)
	maps.Copy(all, served(t, ingestMetrics))
	return all
}

func TestMetricsConventions(t *testing.T) {
	t.Parallel()
	bounded := []string{"lane", "reason", "le", "version", "goversion", "table", "connection", "stream", "consumer", "tenant"}
	for name, m := range known(t) {
		require.Equal(t, m.kind == "counter", strings.HasSuffix(name, "_total"), name)
		require.Subset(t, bounded, m.labels, "%s: the values of a label are bounded", name)
		require.NotRegexp(t, `_(ms|millis|milliseconds|minutes|kb|mb|percent)(_|$)`, name, "base units")
		require.True(t, strings.HasSuffix(m.help, "."), "%s: %s", name, m.help)
	}
}

// TestDocumentedMetrics compares the metrics named on the pages with those of the programs.
func TestDocumentedMetrics(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	known := known(t)
	for _, page := range append(pages, filepath.Join(root, "README.md")) {
		content, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, name := range regexp.MustCompile(`mqttbridge_\w+`).FindAllString(string(content), -1) {
			name = strings.TrimSuffix(name, "_bucket")
			if !strings.HasSuffix(name, "_") { // a prefix such as mqttbridge_leaf_…
				require.Contains(t, known, name, page)
			}
		}
	}
}

// The tables of docs/metrics.md match the golden files.
func TestMetricsPage(t *testing.T) {
	t.Parallel()
	const page = "docs/metrics.md"
	have := read(t, page)
	introduction, _, found := strings.Cut(have, "\n## Bridge\n")
	require.True(t, found)
	want := introduction + "\n## Bridge\n\n" + metricsTable(t, bridgeMetrics) + "\n## ingest\n\n" + metricsTable(t, ingestMetrics)
	golden.Require(t, filepath.Join(root, page), want)
}

func metricsTable(t *testing.T, golden string) string {
	t.Helper()
	all := served(t, golden)
	text := "| metric | kind | labels | |\n|---|---|---|---|\n"
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m := all[name]
		labels := slices.DeleteFunc(slices.Clone(m.labels), func(l string) bool { return l == "le" })
		slices.Sort(labels)
		text += fmt.Sprintf("| `%s` | %s | %s | %s |\n", name, m.kind, strings.Join(labels, ", "), m.help)
	}
	return text
}

// requireKnownMetrics checks a PromQL expression and returns the metrics in it.
func requireKnownMetrics(t *testing.T, where, expr string) (used []string) {
	t.Helper()
	known := known(t)
	for _, name := range regexp.MustCompile(`\bmqttbridge_\w+`).FindAllString(expr, -1) {
		name = strings.TrimSuffix(name, "_bucket")
		require.Contains(t, known, name, "%s: no program has it", where)
		used = append(used, name)
	}
	for _, m := range regexp.MustCompile(`\bby \(([^)]*)\)`).FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(m[1], ", ") {
			has := label == "instance" || label == "job" ||
				slices.ContainsFunc(used, func(name string) bool { return slices.Contains(known[name].labels, label) })
			require.True(t, has, "%s: no metric there has the label %s", where, label)
		}
	}
	// A counter must be used as a rate, a gauge must not.
	for _, m := range regexp.MustCompile(`(rate|increase)?\(?(mqttbridge_\w+)`).FindAllStringSubmatch(expr, -1) {
		counter := strings.HasSuffix(m[2], "_total") || strings.HasSuffix(m[2], "_bucket")
		require.Equal(t, counter, m[1] != "", "%s: %s", where, m[0])
	}
	return used
}

func TestDashboardPanels(t *testing.T) {
	t.Parallel()
	for file, golden := range map[string]string{"deploy/grafana/dashboard.json": bridgeMetrics, "deploy/grafana/ingest.json": ingestMetrics} {
		shown := dashboard(t, file)
		for name := range served(t, golden) {
			require.True(t, shown[name], "no panel of %s shows %s", file, name)
		}
	}
}

// dashboard checks a dashboard and returns its metrics.
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
