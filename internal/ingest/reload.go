package ingest

import (
	"slices"
	"sync"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/schema"
)

// reloads keeps the effective configuration.
type reloads struct {
	mu      sync.Mutex
	running *config.Ingest
}

// Reload compares c with the effective configuration. It returns the paths that changed: log.level,
// which the command puts in force, and secrets in files, which are read at each connect; and those
// that differ and need a restart.
func (i *Ingest) Reload(c *config.Ingest) (changed, restart []string) {
	i.reloads.mu.Lock()
	defer i.reloads.mu.Unlock()
	live := append(schema.Reread(c, i.reloads.running), "log.level")
	for _, path := range schema.Differences(i.reloads.running, c) {
		if slices.Contains(live, path) {
			changed = append(changed, path)
		} else {
			restart = append(restart, path)
		}
	}
	i.reloads.running = schema.With(i.reloads.running, c, changed...)
	return changed, restart
}
