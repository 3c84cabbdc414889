package ingest

import (
	"sync"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/schema"
)

// reloads keeps the effective configuration.
type reloads struct {
	mu      sync.Mutex
	running *config.Ingest
}

// Reload compares c with the effective configuration. It returns the paths that changed and the
// paths that differ and need a restart. Of the changed ones, the command applies log.level, and
// secrets in files are read at each connect.
func (i *Ingest) Reload(c *config.Ingest) (changed, restart []string) {
	i.reloads.mu.Lock()
	defer i.reloads.mu.Unlock()
	i.reloads.running, changed, restart = schema.Reload(i.reloads.running, c, "log.level")
	return changed, restart
}
