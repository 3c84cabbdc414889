package check

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"mqtt-nats-bridge/internal/config"
	"mqtt-nats-bridge/internal/plan"
)

// Local runs the checks that need no peer: the lanes, the warnings that the bridge logs at start,
// and the directories.
func Local(c *config.Config, plan *plan.Plan, r *Report) {
	r.OK("config", "%d topics, %s, %s", len(c.Topics), lanes(c, plan), streamNames(plan))
	for _, w := range c.Warnings() {
		r.Note("config", "%s", w)
	}
	if c.StateDir != "" {
		directory("state_dir", c.StateDir, r)
	}
	if c.NATS.Mode == config.LeafMode {
		r.OK("leaf", "domain %s, stores up to %s for the hub at %s", c.NATS.Leaf.Domain, c.NATS.Leaf.MaxBytes, c.NATS.Leaf.URL)
		directory("nats.leaf.store_dir", c.NATS.Leaf.StoreDir, r)
	}
}

func lanes(c *config.Config, plan *plan.Plan) string {
	first, last := plan.Lanes[0].ClientID, plan.Lanes[len(plan.Lanes)-1].ClientID
	if first == last {
		return "1 lane " + first
	}
	if c.Lanes.Partitions.Auto {
		return fmt.Sprintf("lanes %s to %s shared with other replicas", first, last)
	}
	return fmt.Sprintf("%d lanes %s to %s", len(plan.Lanes), first, last)
}

func streamNames(plan *plan.Plan) string {
	if len(plan.Streams) == 0 {
		return "no streams of its own"
	}
	names := make([]string, len(plan.Streams))
	for i, s := range plan.Streams {
		names[i] = s.Name
	}
	return "streams " + strings.Join(names, ", ")
}

// directory checks that a directory is writable. It does not create the directory: the bridge may
// run as another user.
func directory(what, dir string, r *Report) {
	_, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		r.Note(what, "%s does not exist yet, the bridge creates it", dir)
		return
	}
	file, err := os.CreateTemp(dir, "check-*")
	if err != nil {
		r.Fail(what, "not writable: %v: give the user that runs the bridge write permission, otherwise no message is accepted", err)
		return
	}
	_ = file.Close()
	if err := os.Remove(file.Name()); err != nil {
		r.Note(what, "a test file was left behind: %v", err)
		return
	}
	r.OK(what, "%s is writable", dir)
}
