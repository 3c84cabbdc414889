package ingest

import (
	"slices"
	"sync"

	"mqtt-nats-bridge/internal/config"
)

// reloads is the configuration that is in force.
type reloads struct {
	mu      sync.Mutex
	running *config.Ingest
}

// Reload compares c with the configuration in force. It returns the paths that changed:
// log.level, which the command puts in force, and secrets in files, which are read at each
// connect; and those that differ and need a restart.
func (i *Ingest) Reload(c *config.Ingest) (changed, restart []string) {
	i.reloads.mu.Lock()
	defer i.reloads.mu.Unlock()
	live := append(c.NATS.Reread(i.reloads.running.NATS), "log.level")
	if c.Database.PasswordFile != "" && c.Database.PasswordFile == i.reloads.running.Database.PasswordFile {
		live = append(live, "database.password")
	}
	for _, path := range config.Differences(i.reloads.running, c) {
		if slices.Contains(live, path) {
			changed = append(changed, path)
		} else {
			restart = append(restart, path)
		}
	}
	i.reloads.running = config.With(i.reloads.running, c, changed...)
	return changed, restart
}
