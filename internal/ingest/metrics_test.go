package ingest

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mqtt-nats-bridge/internal/golden"
	"mqtt-nats-bridge/internal/pki"
)

// metricsKeepTheirNames compares the output of /metrics with a file: name, kind
// and labels of each metric, no values. Dashboards and alerts depend on them.
func metricsKeepTheirNames(t *testing.T, r *rig) {
	authority, err := pki.New()
	require.NoError(t, err)
	client, err := authority.Device("ingest")
	require.NoError(t, err)
	files, err := pki.Write(t.TempDir(), "client", client)
	require.NoError(t, err)
	u, err := url.Parse(r.database)
	require.NoError(t, err)
	query := u.Query() // offered to a server with TLS; this one may be plain
	query.Set("sslmode", "prefer")
	query.Set("sslcert", files.Cert)
	query.Set("sslkey", files.Key)
	u.RawQuery = query.Encode()
	r.database = u.String()
	families, err := r.ingest("tracing.endpoint=http://127.0.0.1:1").Metrics().Gather()
	require.NoError(t, err)
	var text strings.Builder
	for _, f := range families {
		if f.GetName() == "mqttbridge_ingest_certificate_expiry_timestamp_seconds" {
			require.Equal(t, "database", f.GetMetric()[0].GetLabel()[0].GetValue())
			require.Greater(t, f.GetMetric()[0].GetGauge().GetValue(), float64(time.Now().Unix()))
		}
		if !strings.HasPrefix(f.GetName(), "mqttbridge_") {
			continue
		}
		text.WriteString("# HELP " + f.GetName() + " " + f.GetHelp() + "\n# TYPE " + f.GetName() + " " + strings.ToLower(f.GetType().String()) + "\n")
		var labels []string
		for _, pair := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, pair.GetName())
		}
		slices.Sort(labels)
		text.WriteString(f.GetName())
		if len(labels) > 0 {
			text.WriteString("{" + strings.Join(labels, ",") + "}")
		}
		text.WriteString("\n")
	}
	golden.Require(t, "testdata/metrics.golden", text.String())
}
