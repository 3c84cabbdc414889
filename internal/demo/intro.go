package demo

import (
	"fmt"
	"strings"
)

// intro returns the addresses of the running parts and commands to try. Every command is complete, so
// that it can be pasted into a shell. If the temporary directory has a short name, the text has 11
// lines of at most 80 columns, or 24 lines together with the table.
func intro(r *rig, devices int, log string) string {
	server := r.server.URL()
	host, port, _ := strings.Cut(strings.TrimPrefix(r.broker.TLSURL(), "ssl://"), ":")
	var b strings.Builder
	fmt.Fprintf(&b, "%d devices -mTLS-> %s:%s -> bridge -> %s", devices, host, port, server)
	if r.database != nil {
		b.WriteString(" -> ingest -> PostgreSQL")
	}
	b.WriteByte('\n')
	files := "certificates"
	if log != "" {
		files += ", " + log
	}
	fmt.Fprintf(&b, "%s (%s; removed at the end)\n", r.dir, files)
	fmt.Fprintf(&b, "In a browser: http://%s/ - in another terminal:\n", r.admin)
	fmt.Fprintf(&b, "  nats -s %s stream ls\n", server)
	fmt.Fprintf(&b, "  nats -s %s sub 'tenant.acme.>'\n", server)
	fmt.Fprintf(&b, "  nats -s %s stream view QUARANTINE\n", server)
	if r.database != nil {
		fmt.Fprintf(&b, "  %s\n", r.database.query())
	}
	fmt.Fprintf(&b, "  curl http://%s/status\n", r.admin)
	fmt.Fprintf(&b, "  cd %s && \\\n", r.dir)
	fmt.Fprintf(&b, "  mosquitto_pub -h %s -p %s --cafile %s \\\n", host, port, r.files.ca)
	fmt.Fprintf(&b, "    --cert %s --key %s -q 1 \\\n", r.files.cert, r.files.key)
	fmt.Fprintf(&b, "    -t %s -m '{\"t\":21.5}'\n", topicOf(visitor, "telemetry"))
	return b.String()
}
