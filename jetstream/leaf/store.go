package leaf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A hub sources by sequence: it asks for messages after the last sequence that it has stored. A
// sequence of a local stream must therefore never occur twice. It could after the loss of a store,
// and after a power cut that set a store back to what the disk had. The hub would silently skip
// messages with an old sequence.
//
// A new stream begins at a sequence taken from the clock, like the journal's message numbers, and
// so does an empty one at each start. If a store may have been set back, [Leaf.Renumber] advances
// the sequences before anything is stored. A restored copy is detected only by the hub's report:
// [Leaf.Prove].

// sequencesPerSecond is more than a stream gets on average.
const sequencesPerSecond = 1 << 17

// sequenceFloor is above every sequence that a stream has reached so far.
func sequenceFloor(now time.Time) uint64 {
	epoch := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	return max(1, uint64(max(0, now.Sub(epoch)/time.Second))*sequencesPerSecond)
}

// ErrStoreLocked means that another process has the store open.
var ErrStoreLocked = errors.New("it is in use by another bridge")

// storeMark is the file next to the store that records how its last user ended.
type storeMark struct {
	// Boot identifies the boot of the machine. Within one boot no write is lost, however the
	// process ended.
	Boot string `json:"boot"`
	// Clean means that the files were synced after the last write.
	Clean bool `json:"clean"`
	// SetBack means that the files may lack writes of an earlier boot and that the sequences have
	// not been advanced since ([Leaf.Renumber]). A clean end of the process does not reset it.
	SetBack bool `json:"set_back,omitempty"`
	// Doubt contains the last sequence of each stream when it was opened by a process that the hub
	// has not reported to since. See [Leaf.Prove].
	Doubt map[string]uint64 `json:"doubt,omitempty"`
}

const storeMarkFile = "mqtt-nats-bridge.json"

// openStore creates the directory if it is missing and reports whether its files may lack the
// latest writes.
func openStore(dir string) (mark storeMark, lock *os.File, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return mark, nil, fmt.Errorf("create the leaf node's store: %w", err)
	}
	lock, err = lockStore(dir)
	if err != nil {
		return mark, nil, err
	}
	last, err := readStoreMark(dir)
	mark.Boot = bootID()
	if err == nil && last != nil {
		mark.SetBack = last.SetBack || !last.Clean && (mark.Boot == "" || last.Boot != mark.Boot)
		mark.Doubt = last.Doubt
	}
	if err == nil {
		err = writeStoreMark(dir, mark)
	}
	if err != nil {
		return mark, nil, errors.Join(err, lock.Close())
	}
	return mark, lock, nil
}

// closeStore syncs all files. Some vanish while it does: nats-server removes what a purge left in a goroutine
// that Shutdown does not wait for.
func closeStore(dir string, mark storeMark) error {
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = syncPath(path)
		}
		if errors.Is(err, fs.ErrNotExist) && path != dir {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("sync the leaf node's store: %w", err)
	}
	mark.Clean = true
	return writeStoreMark(dir, mark)
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// readStoreMark returns nil where there is no file: the store is new.
func readStoreMark(dir string) (*storeMark, error) {
	content, err := os.ReadFile(filepath.Join(dir, storeMarkFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the leaf node's store: %w", err)
	}
	mark := &storeMark{}
	if json.Unmarshal(content, mark) != nil {
		return &storeMark{}, nil // torn by the very power cut that it records
	}
	return mark, nil
}

func writeStoreMark(dir string, mark storeMark) error {
	content, err := json.Marshal(mark)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, storeMarkFile)
	err = os.WriteFile(path+".new", content, 0o600)
	if err == nil {
		err = syncPath(path + ".new")
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncPath(dir)
	}
	if err != nil {
		return fmt.Errorf("mark the leaf node's store: %w", err)
	}
	return nil
}

// bootID returns "" if the system does not report it: then every unclean end counts as a power cut.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
