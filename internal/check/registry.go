package check

import (
	"cmp"
	"context"

	"mqtt-nats-bridge/internal/advice"
	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/registry"
)

// Registry checks that the table of certificates can be read, if one is configured.
func Registry(ctx context.Context, c *config.Config, r *Report) {
	if c.Identity.Registry.Kind != config.RegistryPostgres {
		return
	}
	const what = "registry"
	bounded, cancel := context.WithTimeout(ctx, 2*answerTimeout)
	defer cancel()
	found, err := registry.Probe(bounded, c.Identity.Registry.DatabaseURL.Reveal())
	if err != nil {
		r.Fail(what, "%v: %s", err, cmp.Or(advice.For(err), "see the log of the database"))
		return
	}
	transport := "plain text"
	if found.TLS {
		transport = "TLS"
	}
	r.OK(what, "%s can be read, %s", registry.Table, transport)
	if found.Triggers == 0 {
		r.Note(what, "no trigger on %s notifies: changes come with the next refresh, every %s; see docs/registry.md", registry.Table, c.Identity.Registry.Refresh)
	}
}
